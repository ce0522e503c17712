"""Faults on request: which call fails, how, how often, and whether it takes effect all the same."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

#: Not AWS errors, but what a network does.
TIMEOUT, DROP = "timeout", "drop"
#: Seconds; longer than the read time-outs of the SDKs (60 s by default).
LONG_TIME = 120.0

#: What AWS answers with; every other code with 400.
_STATUS = {
    "UnauthorizedOperation": 403,
    "AuthFailure": 401,
    "RequestLimitExceeded": 503,
    "Unavailable": 503,
    "ServiceUnavailable": 503,
    "InternalError": 500,
    "InternalFailure": 500,
}
_MESSAGES = {
    "UnauthorizedOperation": "You are not authorized to perform this operation.",
    "InsufficientInstanceCapacity": (
        "We currently do not have sufficient capacity in the Availability Zone you requested."
    ),
    "RequestLimitExceeded": "Request limit exceeded.",
    "VcpuLimitExceeded": "You have requested more vCPU capacity than your current vCPU limit allows.",
    "InternalError": "An internal error has occurred",
}


class FaultError(ValueError):
    """A fault that cannot be, and why."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """One kind of failure, for the next `count` calls that it fits."""

    action: str = "*"
    """AWS action, `*` for any."""
    match: dict[str, str] = field(default_factory=dict)
    """Request parameters the call must have, like `{"InstanceType": "t3.micro"}`."""
    error: str | None = None
    """AWS error code, `timeout` (no answer for `delay_s`), `drop` (connection closed); None only delays or limits."""
    message: str | None = None
    """Goes with an error code; None takes AWS's usual words."""
    count: int | None = 1
    """Calls to fail; None for all."""
    when: Literal["before", "after"] = "before"
    """`before`: held, and with an error prevented. `after` it took effect: the answer is late or lost."""
    delay_s: float = 0.0
    """Seconds before the answer, or before a `timeout` closes the connection (0: long after any client gave up)."""
    max_grant: int | None = None
    """RunInstances starts at most so many instances; 0 is InsufficientInstanceCapacity."""

    def __post_init__(self) -> None:
        if self.when not in ("before", "after"):
            raise FaultError(f"when: expected before or after, not {self.when!r}")
        if self.count is not None and self.count < 1:
            raise FaultError(f"count: expected at least 1 or null, not {self.count}")
        if self.error is None and self.max_grant is None and not self.delay_s:
            raise FaultError("nothing to do: expected error, max_grant or delay_s")

    @classmethod
    def parse(cls, found: object) -> Fault:
        """From JSON. Raises FaultError for anything that is not a fault."""
        if not isinstance(found, dict):
            raise FaultError(f"expected an object, not {found!r}")
        try:
            return cls(**found)
        except TypeError as error:
            raise FaultError(str(error).removeprefix("Fault.")) from error

    def fits(self, action: str, parameters: Mapping[str, str]) -> bool:
        """True for a call that shall fail this way."""
        return self.action in ("*", action) and all(
            parameters.get(key) == value for key, value in self.match.items()
        )

    @property
    def takes_effect(self) -> bool:
        """False for an error that prevents the call."""
        return self.error is None or self.when == "after"

    @property
    def hold_s(self) -> float:
        """Seconds that the call is held."""
        return self.delay_s or (LONG_TIME if self.error == TIMEOUT else 0.0)

    @property
    def status(self) -> int:
        """HTTP status of the error answer."""
        return _STATUS.get(self.error or "", 400)

    @property
    def text(self) -> str:
        """Message of the error answer."""
        return self.message or _MESSAGES.get(self.error or "", "Fault injected into the local AWS")


class Faults:
    """The faults still to come; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: list[Fault] = []
        self._released = threading.Event()

    def add(self, faults: list[Fault]) -> None:
        with self._lock:
            self._pending += faults

    def clear(self) -> None:
        """Forget all faults and end the delays that calls are held in."""
        with self._lock:
            self._pending.clear()
            self._released.set()
            self._released = threading.Event()

    def pending(self) -> list[dict[str, Any]]:
        """What is still to come, fit for JSON."""
        with self._lock:
            return [asdict(fault) for fault in self._pending]

    def take(self, action: str, parameters: Mapping[str, str]) -> Fault | None:
        """The first fault that fits this call, one use of which is now spent."""
        with self._lock:
            for fault in self._pending:
                if fault.fits(action, parameters):
                    if fault.count is not None:
                        fault.count -= 1
                        if not fault.count:
                            self._pending.remove(fault)
                    return fault
        return None

    def hold(self, seconds: float) -> None:
        """Wait so long, or until the faults are cleared."""
        with self._lock:
            released = self._released
        released.wait(seconds)
