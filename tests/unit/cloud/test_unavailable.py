"""Offerings that failed cool down."""

from __future__ import annotations

from datetime import UTC, datetime

from kip.cloud.unavailable import COOL_DOWN, UnavailableOfferings


class SetClock:
    """Shows the time it was set to."""

    seconds = 100.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def test_a_failed_offering_is_remembered_with_its_reason_until_it_has_cooled_down() -> None:
    clock = SetClock()
    memory = UnavailableOfferings(clock=clock)
    memory.mark("m5.large", "us-east-1a", "spot", "no capacity")

    clock.seconds += COOL_DOWN - 1
    assert memory.why("m5.large", "us-east-1a", "spot") == "no capacity"
    assert memory.current() == {("m5.large", "us-east-1a", "spot"): "no capacity"}

    clock.seconds += 1
    assert memory.why("m5.large", "us-east-1a", "spot") is None
    assert memory.current() == {}


def test_other_zones_types_and_markets_are_not_affected() -> None:
    memory = UnavailableOfferings(clock=SetClock())
    memory.mark("m5.large", "us-east-1a", "spot", "no capacity")
    assert memory.why("m5.large", "us-east-1b", "spot") is None
    assert memory.why("m5.large", "us-east-1a", "on-demand") is None
    assert memory.why("m5.xlarge", "us-east-1a", "spot") is None


def test_a_second_failure_starts_the_time_anew() -> None:
    clock = SetClock()
    memory = UnavailableOfferings(clock=clock, cool_down=10)
    memory.mark("m5.large", "a", "spot", "first")
    clock.seconds += 8
    memory.mark("m5.large", "a", "spot", "second")
    clock.seconds += 8
    assert memory.why("m5.large", "a", "spot") == "second"


def test_a_full_subnet_cools_down_too() -> None:
    clock = SetClock()
    memory = UnavailableOfferings(clock=clock)
    memory.mark_subnet("subnet-1", "no addresses")
    assert memory.subnets() == {"subnet-1": "no addresses"}
    assert memory.current() == {}
    clock.seconds += COOL_DOWN
    assert memory.subnets() == {}
