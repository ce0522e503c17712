"""EC2's throttle, kept on our side too: a call that waits its turn here is not refused there.

EC2 counts calls in token buckets per account, region and action; a refused call costs a token all the same and
comes back with backoff, which is slower than waiting.
https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html
"""

from __future__ import annotations

from dataclasses import dataclass

from kip.model.clock import Clock, SystemClock
from kip.model.tokens import TokenBucket


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Size of a bucket and how fast it fills again."""

    burst: int
    per_second: float


#: AWS's documented defaults for RunInstances calls.
RUN_INSTANCES = Rate(burst=5, per_second=2.0)
#: Half of AWS's documented 100 and 10 a second: others of the account tag too, and nobody waits for ours.
CREATE_TAGS = Rate(burst=50, per_second=5.0)


class RateLimiter:
    """Hands out tokens in the order they were asked for."""

    def __init__(self, rate: Rate, *, clock: Clock | None = None) -> None:
        self._rate = rate
        self._clock = clock or SystemClock()
        self._bucket = TokenBucket(rate.per_second, rate.burst, self._clock)

    def wait_s(self, ahead: int = 0) -> float:
        """Seconds that somebody who took a token now, after as many others as are `ahead`, would wait for it."""
        return max(0.0, (1 + ahead - self.level()) / self._rate.per_second)

    async def take(self) -> float:
        """Wait for a token; returns the seconds waited.

        A token is reserved at once and may leave the bucket in debt, so that whoever asks later waits longer. A
        cancelled wait does not give its token back: the next ones come later than they could, never too early.
        """
        wait = self.wait_s()
        self._bucket.charge(1)
        if wait:
            await self._clock.sleep(wait)
        return wait

    def level(self) -> float:
        """Tokens in the bucket now; below 0 while somebody waits."""
        return self._bucket.level()
