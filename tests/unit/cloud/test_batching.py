"""Many small calls become one, each caller gets its own results."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from kip.cloud.batching import Batcher, Windows

WINDOWS = Windows(idle=1.0, longest=3.0, most_items=5)


class HandClock:
    """Time that moves only when told to."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._sleepers.append((self.seconds + seconds, woken))
        await woken.wait()

    async def advance(self, seconds: float) -> None:
        """Move on, and let everybody who is due do what they do then."""
        await settle()
        self.seconds += seconds
        for due, woken in self._sleepers:
            if due <= self.seconds:
                woken.set()
        await settle()


async def settle() -> None:
    """Let every task run until it waits for something else."""
    for _ in range(20):
        await asyncio.sleep(0)


class Doubler:
    """Executes by doubling; remembers each batch."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.error: Exception | None = None

    async def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        if self.error:
            raise self.error
        return [2 * item for item in items]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def doubler() -> Doubler:
    return Doubler()


@pytest.fixture
def batcher(clock: HandClock, doubler: Doubler) -> Batcher[int, int]:
    return Batcher(doubler, WINDOWS, clock=clock)


async def test_callers_within_the_idle_window_share_a_call(
    batcher: Batcher[int, int], doubler: Doubler, clock: HandClock
) -> None:
    first = asyncio.create_task(batcher.submit([1]))
    await clock.advance(0.9)
    second = asyncio.create_task(batcher.submit([2, 3]))
    await clock.advance(0.9)
    assert doubler.batches == []

    await clock.advance(0.1)
    assert doubler.batches == [[1, 2, 3]]
    assert await first == [2]
    assert await second == [4, 6]


async def test_a_bucket_is_sent_when_it_is_as_old_as_allowed(
    batcher: Batcher[int, int], doubler: Doubler, clock: HandClock
) -> None:
    callers = []
    for item in range(4):
        callers.append(asyncio.create_task(batcher.submit([item])))
        await clock.advance(0.75)
    assert doubler.batches == [[0, 1, 2, 3]]
    assert [await caller for caller in callers] == [[0], [2], [4], [6]]


async def test_a_full_bucket_is_sent_at_once_and_the_rest_waits(
    batcher: Batcher[int, int], doubler: Doubler, clock: HandClock
) -> None:
    caller = asyncio.create_task(batcher.submit(range(7)))
    await settle()
    assert doubler.batches == [[0, 1, 2, 3, 4]]

    await clock.advance(1.0)
    assert doubler.batches == [[0, 1, 2, 3, 4], [5, 6]]
    assert await caller == [0, 2, 4, 6, 8, 10, 12]


async def test_the_next_call_opens_a_new_bucket(
    batcher: Batcher[int, int], doubler: Doubler, clock: HandClock
) -> None:
    for item in (1, 2):
        caller = asyncio.create_task(batcher.submit([item]))
        await clock.advance(1.0)
        assert await caller == [2 * item]
    assert doubler.batches == [[1], [2]]


async def test_the_same_item_is_asked_for_once(
    batcher: Batcher[int, int], doubler: Doubler, clock: HandClock
) -> None:
    callers = [asyncio.create_task(batcher.submit([7])) for _ in range(3)]
    await clock.advance(1.0)
    assert doubler.batches == [[7]]
    assert [await caller for caller in callers] == [[14]] * 3


async def test_items_with_different_keys_do_not_meet(doubler: Doubler, clock: HandClock) -> None:
    batcher: Batcher[int, int] = Batcher(doubler, WINDOWS, key=lambda item: item % 2, clock=clock)
    caller = asyncio.create_task(batcher.submit([1, 2, 3, 4]))
    await clock.advance(1.0)
    assert sorted(doubler.batches) == [[1, 3], [2, 4]]
    assert await caller == [2, 4, 6, 8]


async def test_an_error_reaches_every_caller_of_its_bucket(
    batcher: Batcher[int, int], doubler: Doubler, clock: HandClock
) -> None:
    doubler.error = RuntimeError("no")
    callers = [asyncio.create_task(batcher.submit([item])) for item in (1, 2)]
    await clock.advance(1.0)
    for caller in callers:
        with pytest.raises(RuntimeError, match="no"):
            await caller


async def test_a_wrong_number_of_results_is_an_error(clock: HandClock) -> None:
    async def too_few(items: list[int]) -> list[int]:
        return items[1:]

    batcher: Batcher[int, int] = Batcher(too_few, WINDOWS, clock=clock)
    caller = asyncio.create_task(batcher.submit([1, 2]))
    await clock.advance(1.0)
    with pytest.raises(ValueError, match="zip"):
        await caller


async def test_a_cancelled_caller_does_not_disturb_the_others(
    batcher: Batcher[int, int], doubler: Doubler, clock: HandClock
) -> None:
    leaving = asyncio.create_task(batcher.submit([1]))
    staying = asyncio.create_task(batcher.submit([1, 2]))
    await settle()
    leaving.cancel()
    await clock.advance(1.0)
    assert await staying == [2, 4]
    assert leaving.cancelled()


async def test_nothing_asked_is_nothing_done(batcher: Batcher[int, int], doubler: Doubler) -> None:
    assert await batcher.submit([]) == []
    assert doubler.batches == []


async def test_close_ends_what_waits(batcher: Batcher[int, int], doubler: Doubler) -> None:
    caller = asyncio.create_task(batcher.submit([1]))
    await settle()
    await batcher.close()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert doubler.batches == []


async def test_an_item_can_be_refused_by_itself() -> None:
    clock = HandClock()

    async def execute(items: list[int]) -> list[int | Exception]:
        return [ValueError("odd") if item % 2 else item for item in items]

    batcher: Batcher[int, int] = Batcher(execute, WINDOWS, clock=clock)
    even, odd = asyncio.create_task(batcher.submit([2, 4])), asyncio.create_task(batcher.submit([3]))
    await clock.advance(1)
    assert even.result() == [2, 4]
    with pytest.raises(ValueError, match="odd"):
        odd.result()
