"""Resting after a refusal: what AWS has just said no to is not asked again because something else happened."""

from __future__ import annotations

from kip.model.clock import Clock


class Rests:
    """Until when each key rests.

    A pass over a cell that says `Wait(60)` is repeated earlier when its pod or Cell changes, and reporting a failure
    changes both. Only memory: a process that begins anew may ask once more.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}

    def begin(self, key: str, seconds: float) -> None:
        """Let this key rest from now on."""
        now = self._clock.monotonic()
        self._until = {k: until for k, until in self._until.items() if until > now}
        self._until[key] = now + seconds

    def left_s(self, key: str) -> float:
        """Seconds that this key still has to rest; 0 if it need not."""
        return max(0.0, self._until.get(key, 0.0) - self._clock.monotonic())
