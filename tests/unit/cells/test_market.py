"""What machines are chosen by, kept up to date, and what is done when AWS does not tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from kip.cells.market import MarketWatch
from kip.cloud import catalogue
from kip.cloud.errors import NotAuthorized, Unreachable
from kip.cloud.fake import FakeCloud
from kip.model.clock import ManualClock
from kip.model.instance_type import InstanceType
from kip.model.market import MarketData
from kip.model.quantity import GIB, MIB
from kip.observe.metrics import Metrics

START = datetime(2026, 12, 1, tzinfo=UTC)
HOUR = 3600.0


@dataclass
class Prices:
    """A price list that says what it is told to."""

    answer: dict[str, float] = field(default_factory=lambda: {"m7i.large": 0.2})
    error: Exception | None = None

    async def on_demand(self) -> dict[str, float]:
        if self.error:
            raise self.error
        return self.answer


class World:
    """A watch, and all that it told."""

    def __init__(self, *, price_list: bool = True) -> None:
        self.clock = ManualClock(START)
        self.cloud = FakeCloud(clock=self.clock)
        self.prices = Prices()
        self.metrics = Metrics()
        self.told: list[tuple[MarketData, tuple[InstanceType, ...] | None]] = []
        self.watch = MarketWatch(
            self.cloud,
            self.prices if price_list else None,
            self.clock,
            region="us-east-1",
            tell=lambda market, types: self.told.append((market, types)),
            metrics=self.metrics.catalogue,
        )

    @property
    def market(self) -> MarketData:
        return self.told[-1][0]

    def as_of(self, source: str) -> float | None:
        return self.metrics.registry.get_sample_value(
            "kip_catalogue_as_of_timestamp_seconds", {"source": source}
        )

    def asked(self, source: str, result: str = "ok") -> float:
        labels = {"source": source, "result": result}
        return self.metrics.registry.get_sample_value("kip_catalogue_refreshes_total", labels) or 0


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    task = asyncio.create_task(world.watch.run())
    try:
        await world.clock.advance(0)
        yield world
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_all_that_aws_tells_is_put_together() -> None:
    async with running(World()) as world:
        market, types = world.told[-1]
        assert market.on_demand == {"m7i.large": 0.2}
        assert market.spot == world.cloud.spot
        assert market.offered.keys() == {"us-east-1a", "us-east-1b"}
        # EC2 names neither prices nor zone ids: those of the catalogue go on counting.
        assert types == catalogue.load("us-east-1")
        assert market.as_of == START
        for source in ("types", "offerings", "prices", "spot"):
            assert world.as_of(source) == START.timestamp()


async def test_each_is_asked_again_at_its_own_pace_and_the_same_is_no_news() -> None:
    async with running(World()) as world:
        told = len(world.told)
        await world.clock.advance(13 * HOUR)
        asked = {source: world.asked(source) for source in ("types", "offerings", "prices", "spot")}
        assert asked == {"types": 2, "offerings": 3, "prices": 2, "spot": 27}
        assert len(world.told) == told
        world.cloud.spot["m7i.large", "us-east-1a"] = 0.001
        await world.clock.advance(HOUR / 2)
        assert world.market.spot["m7i.large", "us-east-1a"] == 0.001
        assert world.market.as_of is not None
        assert world.market.as_of > START


async def test_a_refusal_is_said_once_asked_again_rarely_and_harms_nothing_else() -> None:
    world = World()
    refusal = NotAuthorized("no", action="DescribeSpotPriceHistory", code="UnauthorizedOperation")
    world.cloud.fail("DescribeSpotPriceHistory", refusal, times=3)
    with capture_logs() as logs:
        async with running(world):
            assert world.market.spot == {}
            assert world.market.on_demand
            assert world.as_of("spot") is None
            await world.clock.advance(2 * HOUR)
            assert world.asked("spot", "NotAuthorized") == 3
            (said,) = [entry for entry in logs if entry["event"].startswith("not allowed")]
            assert said["permission"] == "ec2:DescribeSpotPriceHistory"
            assert said["meanwhile"] == "spot is ranked by on-demand prices"
            # The permission has been given meanwhile.
            await world.clock.advance(HOUR)
            assert world.market.spot


@pytest.mark.parametrize("error", [Unreachable("no route"), KeyError("a field that AWS left out")])
async def test_what_is_known_outlives_failures_which_are_repeated_ever_more_rarely(error: Exception) -> None:
    async with running(World()) as world:
        world.prices.error = error
        await world.clock.advance(12 * HOUR)
        world.prices.answer = {"m7i.large": 0.3}
        assert world.market.on_demand == {"m7i.large": 0.2}
        assert world.as_of("prices") == START.timestamp()
        await world.clock.advance(60 + 120 + 240)
        result = "CloudUnreachable" if isinstance(error, Unreachable) else "KeyError"
        assert world.asked("prices", result) == 4
        world.prices.error = None
        await world.clock.advance(480)
        assert world.market.on_demand == {"m7i.large": 0.3}


@pytest.mark.parametrize(
    ("empty", "kept"),
    [
        (lambda world: setattr(world.cloud, "catalogue", ()), lambda world: world.told[-1][1]),
        (lambda world: world.cloud.spot.clear(), lambda world: world.market.spot),
        (lambda world: setattr(world.prices, "answer", {}), lambda world: world.market.on_demand),
    ],
)
async def test_an_empty_answer_is_none(empty: Callable[[World], Any], kept: Callable[[World], Any]) -> None:
    async with running(World()) as world:
        empty(world)
        await world.clock.advance(13 * HOUR)
        assert kept(world)


async def test_without_a_price_list_the_built_in_prices_count_and_show_their_age() -> None:
    async with running(World(price_list=False)) as world:
        assert world.market.on_demand == {}
        built_in = catalogue.prices_as_of("us-east-1")
        assert built_in is not None
        assert (
            world.as_of("prices")
            == datetime(built_in.year, built_in.month, built_in.day, tzinfo=UTC).timestamp()
        )
        assert world.asked("prices") == 0


def seen(world: World, *amounts: int, instance_type: str = "m7i.large") -> None:
    for amount in amounts:
        world.watch.memory_seen(instance_type, amount, advertised_bytes=8 * GIB)


def test_the_least_memory_that_was_seen_of_a_type_counts() -> None:
    world = World()
    seen(world, 7700 * MIB + 4096, 7712 * MIB, 7690 * MIB)
    assert [market.memory_bytes["m7i.large"] for market, _ in world.told] == [7696 * MIB, 7680 * MIB]
    seen(world, 7685 * MIB)
    assert len(world.told) == 2, "a few pages less are no news"
    seen(world, 7700 * MIB, instance_type="m7a.large")
    assert world.market.memory_bytes.keys() == {"m7i.large", "m7a.large"}


def test_a_cell_cannot_make_up_memory() -> None:
    world = World()
    with capture_logs() as logs:
        seen(world, 8 * GIB + 1, 64 * GIB, 1, 0, -1)
    assert world.told == []
    assert len(logs) == 1, "nor fill the log"
