from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from kip.cellapi.versions import ResourceVersions, Signal


class Wall:
    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


def test_versions_grow_even_when_the_clock_does_not() -> None:
    wall = Wall(datetime(2026, 1, 1, tzinfo=UTC))
    versions = ResourceVersions(wall)
    given = [int(versions.next()) for _ in range(3)]
    wall.moment -= timedelta(hours=1)
    given.append(int(versions.next()))
    assert given == sorted(set(given))


def test_a_new_process_begins_above_what_an_earlier_one_gave_out() -> None:
    wall = Wall(datetime(2026, 1, 1, tzinfo=UTC))
    earlier = ResourceVersions(wall)
    last = [int(earlier.next()) for _ in range(1000)][-1]
    wall.moment += timedelta(seconds=1)
    assert int(ResourceVersions(wall).next()) > last


def test_versions_fit_an_int64() -> None:
    assert int(ResourceVersions(Wall(datetime(9999, 1, 1, tzinfo=UTC))).next()) < 2**63


async def test_a_signal_wakes_everybody_each_time() -> None:
    signal = Signal()
    signal.fire()
    assert not await signal.wait(0.01), "nobody waited for the first"
    for _ in range(2):
        waiting = [asyncio.create_task(signal.wait(5)) for _ in range(3)]
        await asyncio.sleep(0)
        signal.fire()
        assert await asyncio.gather(*waiting) == [True] * 3


async def test_one_that_gives_up_does_not_disturb_the_others() -> None:
    signal = Signal()
    waiting = asyncio.create_task(signal.wait(5))
    await asyncio.sleep(0)
    assert not await signal.wait(0.01)
    cancelled = asyncio.create_task(signal.wait(5))
    await asyncio.sleep(0)
    cancelled.cancel()
    signal.fire()
    assert await waiting
