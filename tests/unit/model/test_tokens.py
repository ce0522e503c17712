from __future__ import annotations

from datetime import UTC, datetime

from kip.model.tokens import TokenBucket


class Seconds:
    def __init__(self) -> None:
        self.value = 100.0

    def monotonic(self) -> float:
        return self.value

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        self.value += seconds


def test_a_burst_and_then_the_rate() -> None:
    clock = Seconds()
    bucket = TokenBucket(2, 3, clock)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    clock.value += 0.5
    assert [bucket.take(), bucket.take()] == [True, False]
    clock.value += 1000
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


def test_what_is_charged_is_paid_later() -> None:
    clock = Seconds()
    bucket = TokenBucket(2, 3, clock)
    bucket.charge(5)
    assert bucket.level() == -2
    assert not bucket.take()
    clock.value += 1.4
    assert not bucket.take()
    clock.value += 0.1
    assert [bucket.take(), bucket.take()] == [True, False]
