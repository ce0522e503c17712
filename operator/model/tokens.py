"""So many at once, and after that so many a second."""

from __future__ import annotations

from kip.model.clock import Clock


class TokenBucket:
    """Lets `burst` through at once, and `rate` per second in the long run."""

    __slots__ = ("_burst", "_clock", "_counted_at", "_rate", "_tokens")

    def __init__(self, rate_per_s: float, burst: int, clock: Clock) -> None:
        self._rate = rate_per_s
        self._burst = float(burst)
        self._clock = clock
        self._tokens = self._burst
        self._counted_at = clock.monotonic()

    def take(self) -> bool:
        """Take one token; False if there is none."""
        if self.level() < 1:
            return False
        self.charge(1)
        return True

    def charge(self, tokens: int) -> None:
        """Take so many tokens, also more than there are: what has been done already is paid for later."""
        now = self._clock.monotonic()
        self._tokens, self._counted_at = self._level(now) - tokens, now

    def level(self) -> float:
        """Tokens in the bucket now; below 0 while it is in debt."""
        return self._level(self._clock.monotonic())

    def _level(self, now: float) -> float:
        return min(self._burst, self._tokens + (now - self._counted_at) * self._rate)
