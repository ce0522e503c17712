"""Calls wait their turn."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kip.cloud.ratelimit import Rate, RateLimiter


class SetClock:
    """Does not move by itself, and remembers how long it was asked to sleep."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


async def test_the_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    limiter = RateLimiter(Rate(burst=5, per_second=2.0), clock=SetClock())
    assert [await limiter.take() for _ in range(8)] == [0, 0, 0, 0, 0, 0.5, 1.0, 1.5]


async def test_waiting_really_waits() -> None:
    clock = SetClock()
    limiter = RateLimiter(Rate(burst=1, per_second=4.0), clock=clock)
    await limiter.take()
    await limiter.take()
    assert clock.slept == [0.25]


async def test_an_idle_bucket_fills_up_to_its_size_and_not_beyond() -> None:
    clock = SetClock()
    limiter = RateLimiter(Rate(burst=2, per_second=2.0), clock=clock)
    await limiter.take()
    await limiter.take()
    clock.seconds += 1000
    assert [await limiter.take() for _ in range(3)] == [0, 0, 0.5]


async def test_how_long_a_token_would_take_is_told_without_taking_it() -> None:
    clock = SetClock()
    limiter = RateLimiter(Rate(burst=2, per_second=2.0), clock=clock)
    assert limiter.wait_s() == 0
    await limiter.take()
    await limiter.take()
    assert [limiter.wait_s(), limiter.wait_s()] == [0.5, 0.5]
    clock.seconds += 0.2
    assert limiter.wait_s() == pytest.approx(0.3)
