"""What AWS had none of lately: not asked for again until that has cooled down."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from kip.model.clock import Clock, SystemClock
from kip.model.requirements import LaunchType

Key = TypeVar("Key", bound=Hashable)

#: Seconds. Shorter and a launch runs into the same wall again, longer and capacity that came back is missed;
#: Karpenter has settled on the same three minutes.
COOL_DOWN = 180.0

Offering = tuple[str, str, LaunchType]
"""Instance type, zone, launch type: EC2 has hosts of one's own apart from shared ones."""


class UnavailableOfferings:
    """A memory of offerings and subnets that failed. Nothing is lost with it: the next failure fills it again."""

    def __init__(self, *, clock: Clock | None = None, cool_down: float = COOL_DOWN) -> None:
        """`cool_down` in seconds."""
        clock = clock or SystemClock()
        self._offerings: _Memory[Offering] = _Memory(clock, cool_down)
        self._subnets: _Memory[str] = _Memory(clock, cool_down)

    def mark(self, instance_type: str, zone: str, launch_type: LaunchType, why: str) -> None:
        """Remember a failure, from now on."""
        self._offerings.mark((instance_type, zone, launch_type), why)

    def mark_subnet(self, subnet_id: str, why: str) -> None:
        """Remember that a subnet has no address left, for whatever machine."""
        self._subnets.mark(subnet_id, why)

    def why(self, instance_type: str, zone: str, launch_type: LaunchType) -> str | None:
        """AWS's words if that offering failed lately, else None."""
        return self._offerings.current().get((instance_type, zone, launch_type))

    def current(self) -> dict[Offering, str]:
        """Every offering that failed lately, and why."""
        return self._offerings.current()

    def subnets(self) -> dict[str, str]:
        """Every subnet that was full lately, and why."""
        return self._subnets.current()


class _Memory(Generic[Key]):
    """Forgets each entry some time after it was last marked."""

    def __init__(self, clock: Clock, cool_down: float) -> None:
        self._clock = clock
        self._cool_down = cool_down
        self._entries: dict[Key, tuple[float, str]] = {}

    def mark(self, key: Key, why: str) -> None:
        self._entries[key] = (self._clock.monotonic() + self._cool_down, why)

    def current(self) -> dict[Key, str]:
        now = self._clock.monotonic()
        self._entries = {key: entry for key, entry in self._entries.items() if entry[0] > now}
        return {key: why for key, (_, why) in self._entries.items()}
