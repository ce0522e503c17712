"""EC2's token buckets, off unless asked for: how many calls of an action, and how many instances by them, at a time.

The numbers are AWS's defaults for an account and region
(https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html, "Bucket sizes and refill rates").
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["request", "resource"]


@dataclass(frozen=True, slots=True)
class Rate:
    """Size of a bucket, and tokens that come in a second."""

    burst: float
    per_second: float


#: Calls: what AWS lists by name, then by category.
REQUESTS: dict[str, Rate] = {
    "RunInstances": Rate(5, 2),
    "TerminateInstances": Rate(100, 5),
    "CreateTags": Rate(100, 10),
    "DeleteTags": Rate(100, 10),
}
NON_MUTATING = Rate(100, 20)
UNFILTERED = Rate(50, 10)
"""For the actions below, when a call neither filters nor pages."""
MUTATING = Rate(50, 5)
#: Instances that a call is about.
RESOURCES: dict[str, Rate] = {"RunInstances": Rate(1000, 2), "TerminateInstances": Rate(1000, 20)}

_NON_MUTATING = re.compile(r"^(Describe|Get|List|Search)")
_CAN_BE_UNFILTERED = frozenset(
    {
        "DescribeInstances",
        "DescribeInstanceStatus",
        "DescribeNetworkInterfaces",
        "DescribeSecurityGroups",
        "DescribeSnapshots",
        "DescribeSpotInstanceRequests",
        "DescribeVolumes",
    }
)
_FILTERS_OR_PAGES = re.compile(r"^(Filter\.|MaxResults$|NextToken$|\w+Id\.)")


class ThrottleError(ValueError):
    """A throttle that cannot be, and why."""


Changes = Mapping[str, Mapping[Kind, Rate]]


def parse(found: object) -> Changes | None:
    """From JSON: false for none, true for AWS's numbers, or an object with others, each a burst and a rate:

    `{"RunInstances": {"request": [5, 2], "resource": [10, 2]}}`. Raises ThrottleError.
    """
    if found is None or isinstance(found, bool):
        return {} if found else None
    if not isinstance(found, dict):
        raise ThrottleError(f"expected true, false or an object, not {found!r}")
    return {action: _rates(action, rates) for action, rates in found.items()}


def _rates(action: str, found: object) -> dict[Kind, Rate]:
    if not isinstance(found, dict) or not found or set(found) - {"request", "resource"}:
        raise ThrottleError(f"{action}: expected request, resource or both, not {found!r}")
    rates: dict[Kind, Rate] = {}
    for kind, numbers in found.items():
        if not (
            isinstance(numbers, list)
            and len(numbers) == 2
            and all(isinstance(n, (int, float)) and not isinstance(n, bool) and n > 0 for n in numbers)
        ):
            raise ThrottleError(
                f"{action}.{kind}: expected [burst, per second], both above 0, not {numbers!r}"
            )
        rates[kind] = Rate(*numbers)
    return rates


class Throttle:
    """The buckets; safe for threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._changes: Changes | None = None
        self._buckets: dict[str, _Bucket] = {}

    def set(self, changes: Changes | None) -> None:
        """Throttle from now on, with all buckets full; None ends it."""
        with self._lock:
            self._changes = changes
            self._buckets = {}

    def setting(self) -> Any:
        """What is set, fit for JSON."""
        with self._lock:
            if not self._changes:
                return self._changes is not None
            return {
                action: {kind: [rate.burst, rate.per_second] for kind, rate in rates.items()}
                for action, rates in self._changes.items()
            }

    def admits(self, action: str, parameters: Mapping[str, str]) -> bool:
        """Take this call's tokens; False if a bucket lacks them. One refused for its instances has cost its own token."""
        with self._lock:
            if self._changes is None:
                return True
            name, rate = _requests(action, parameters)
            changes = self._changes.get(action, {})
            if not self._take(name, changes.get("request", rate), 1):
                return False
            resources = changes.get("resource", RESOURCES.get(action))
            if resources is None:
                return True
            return self._take(f"{action} resources", resources, _instances(action, parameters))

    def _take(self, name: str, rate: Rate, tokens: int) -> bool:
        now = self._clock()
        bucket = self._buckets.setdefault(name, _Bucket(rate.burst, now))
        bucket.tokens = min(rate.burst, bucket.tokens + (now - bucket.counted_at) * rate.per_second)
        bucket.counted_at = now
        if bucket.tokens < tokens:
            return False
        bucket.tokens -= tokens
        return True


@dataclass(slots=True)
class _Bucket:
    tokens: float
    counted_at: float


def _requests(action: str, parameters: Mapping[str, str]) -> tuple[str, Rate]:
    """The bucket of an action's calls: each action has its own."""
    if action in REQUESTS:
        return action, REQUESTS[action]
    if not _NON_MUTATING.match(action):
        return action, MUTATING
    if action in _CAN_BE_UNFILTERED and not any(map(_FILTERS_OR_PAGES.match, parameters)):
        return f"{action} unfiltered", UNFILTERED
    return action, NON_MUTATING


def _instances(action: str, parameters: Mapping[str, str]) -> int:
    if action == "RunInstances":
        return int(parameters.get("MaxCount", "1"))
    return sum(1 for name in parameters if name.startswith("InstanceId."))
