"""How long to wait before the next attempt."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Twice as long after each failure, up to a limit."""

    first_s: float
    limit_s: float

    def delay_s(self, failures: int) -> float:
        """Seconds to wait after so many earlier failures; any number of them, days of them included."""
        # A power of two beyond a float's range (2**1024) is an error, not infinity.
        return min(self.limit_s, self.first_s * 2.0 ** min(failures, 64))
