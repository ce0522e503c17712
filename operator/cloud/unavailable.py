"""What AWS had no capacity for lately: not asked for again until that has cooled down."""

from __future__ import annotations

from kip.cloud.base import Market
from kip.model.clock import Clock, SystemClock

#: Seconds. Shorter and a launch runs into the same wall again, longer and capacity that came back is missed;
#: Karpenter has settled on the same three minutes.
COOL_DOWN = 180.0

Offering = tuple[str, str, Market]
"""Instance type, zone, market."""


class UnavailableOfferings:
    """A memory of (type, zone, market) that failed. Nothing is lost with it: the next failure fills it again."""

    def __init__(self, *, clock: Clock | None = None, cool_down: float = COOL_DOWN) -> None:
        """`cool_down` in seconds."""
        self._clock = clock or SystemClock()
        self._cool_down = cool_down
        self._until: dict[Offering, float] = {}
        self._why: dict[Offering, str] = {}

    def mark(self, instance_type: str, zone: str, market: Market, why: str) -> None:
        """Remember a failure, from now on."""
        offering = (instance_type, zone, market)
        self._until[offering] = self._clock.monotonic() + self._cool_down
        self._why[offering] = why

    def why(self, instance_type: str, zone: str, market: Market) -> str | None:
        """AWS's words if that offering failed lately, else None."""
        self._forget_old()
        return self._why.get((instance_type, zone, market))

    def current(self) -> dict[Offering, str]:
        """Every offering that failed lately, and why."""
        self._forget_old()
        return dict(self._why)

    def _forget_old(self) -> None:
        now = self._clock.monotonic()
        for offering in [offering for offering, until in self._until.items() if until <= now]:
            del self._until[offering], self._why[offering]
