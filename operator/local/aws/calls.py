"""What was asked of the local AWS, for benchmarks and tests."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

#: Older calls are forgotten.
KEPT = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One API call as it came in."""

    action: str
    time: float
    """Epoch seconds when it was received."""
    seconds: float
    """Until it was answered, injected delays included."""
    client_token: str | None
    instance_type: str | None
    subnet_id: str | None
    """Of RunInstances."""
    count: int | None
    """MaxCount of RunInstances, number of ids of TerminateInstances."""
    status: int | None
    """HTTP status; None when the answer was withheld."""
    error: str | None
    """Error code of the answer, or `timeout` or `drop`."""


class Calls:
    """The last calls; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: deque[Call] = deque(maxlen=KEPT)

    def record(
        self,
        action: str,
        parameters: dict[str, str],
        *,
        received: float,
        status: int | None,
        error: str | None,
    ) -> None:
        call = Call(
            action=action,
            time=received,
            seconds=round(time.time() - received, 6),
            client_token=parameters.get("ClientToken"),
            instance_type=parameters.get("InstanceType"),
            subnet_id=parameters.get("NetworkInterface.1.SubnetId") or parameters.get("SubnetId"),
            count=_count(action, parameters),
            status=status,
            error=error,
        )
        with self._lock:
            self._calls.append(call)

    def clear(self) -> None:
        with self._lock:
            self._calls.clear()

    def listing(self, action: str | None = None) -> list[dict[str, Any]]:
        """Calls in the order they were answered, of one action or all, fit for JSON."""
        with self._lock:
            return [asdict(call) for call in self._calls if action in (None, call.action)]


def _count(action: str, parameters: dict[str, str]) -> int | None:
    if action == "RunInstances":
        return int(parameters.get("MaxCount", "1"))
    if action == "TerminateInstances":
        return sum(1 for name in parameters if name.startswith("InstanceId."))
    return None
