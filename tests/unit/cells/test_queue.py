"""The work queue: once per mark at most, one at a time per key, delays and back-off by an injected clock."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from kip.cells.queue import WorkQueue
from kip.model.clock import ManualClock, settle
from kip.model.outcome import DONE, Outcome, Stop, Wait


class Worker:
    """Records what it is asked to reconcile; can be held, and answers from a script."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.script: dict[str, list[Outcome | Exception]] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.active = 0
        self.most_active = 0

    async def __call__(self, key: str) -> Outcome:
        self.seen.append(key)
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        await self.gate.wait()
        self.active -= 1
        answers = self.script.get(key)
        answer = answers.pop(0) if answers else DONE
        if isinstance(answer, Exception):
            raise answer
        return answer


@asynccontextmanager
async def running(worker: Worker, clock: ManualClock, **options):
    queue = WorkQueue(clock, **options)
    task = asyncio.create_task(queue.run(worker))
    await settle()
    yield queue
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_marks_before_the_work_begins_are_one():
    worker, clock = Worker(), ManualClock()
    async with running(worker, clock) as queue:
        for _ in range(5):
            queue.mark("a")
        await settle()
    assert worker.seen == ["a"]


async def test_a_mark_during_the_work_brings_one_more_pass_and_never_two_at_once():
    worker, clock = Worker(), ManualClock()
    worker.gate.clear()
    async with running(worker, clock) as queue:
        queue.mark("a")
        await settle()
        queue.mark("a")
        queue.mark("a")
        await settle()
        assert worker.seen == ["a"]
        worker.gate.set()
        await settle()
    assert worker.seen == ["a", "a"]
    assert worker.most_active == 1


async def test_a_wait_comes_back_in_time_and_a_mark_comes_earlier():
    worker, clock = Worker(), ManualClock()
    worker.script["a"] = [Wait(10), Wait(10), Stop()]
    async with running(worker, clock) as queue:
        queue.mark("a")
        await clock.advance(9.9)
        assert len(worker.seen) == 1
        await clock.advance(0.2)
        assert len(worker.seen) == 2
        queue.mark("a")
        await settle()
        assert len(worker.seen) == 3
        await clock.advance(60)
        assert len(worker.seen) == 3, "each pass decides anew when to look again; an older wait is void"


async def test_failures_back_off_and_a_success_forgets_them():
    worker, clock = Worker(), ManualClock()
    worker.script["a"] = [RuntimeError("1"), RuntimeError("2"), RuntimeError("3"), DONE, RuntimeError("4")]
    async with running(worker, clock) as queue:
        queue.mark("a")
        await settle()
        for delay in (0.2, 0.4, 0.8):
            before = len(worker.seen)
            await clock.advance(delay * 0.9)
            assert len(worker.seen) == before
            await clock.advance(delay * 0.1 + 1e-6)
            assert len(worker.seen) == before + 1
        queue.mark("a")
        await settle()
        before = len(worker.seen)
        await clock.advance(0.21)
        assert len(worker.seen) == before + 1


async def test_one_failing_key_does_not_keep_others_from_their_turn():
    worker, clock = Worker(), ManualClock()
    worker.script["bad"] = [RuntimeError("x")] * 50
    async with running(worker, clock, parallel=1) as queue:
        queue.mark("bad")
        await settle()
        for i in range(20):
            queue.mark(f"good-{i}")
        await settle()
        assert {f"good-{i}" for i in range(20)} <= set(worker.seen)


async def test_no_more_than_the_allowed_number_runs_at_once():
    worker, clock = Worker(), ManualClock()
    worker.gate.clear()
    async with running(worker, clock, parallel=3) as queue:
        for i in range(10):
            queue.mark(f"k{i}")
        await settle()
        assert worker.active == 3
        queue.mark("later", 60)
        assert queue.depth() == {"scheduled": 1, "waiting": 7, "active": 3}
        worker.gate.set()
        await settle()
        assert queue.depth() == {"scheduled": 1, "waiting": 0, "active": 0}
    assert len(worker.seen) == 10


async def test_stopping_cancels_work_under_way_and_takes_no_more():
    worker, clock = Worker(), ManualClock()
    worker.gate.clear()
    queue = WorkQueue(clock)
    task = asyncio.create_task(queue.run(worker))
    queue.mark("a")
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    queue.mark("b")
    await settle()
    assert worker.seen == ["a"]


async def test_other_work_waits_for_a_quiet_moment_but_not_for_ever():
    worker, clock = Worker(), ManualClock()
    worker.gate.clear()
    async with running(worker, clock) as queue:
        for i in range(50):
            queue.mark(f"k{i}")
        await settle()
        patient = asyncio.create_task(queue.wait_quiet(at_most_s=60))
        impatient = asyncio.create_task(queue.wait_quiet(at_most_s=5))
        await clock.advance(6)
        assert impatient.done()
        assert not patient.done()
        worker.gate.set()
        await settle()
        await clock.advance(1)
        assert patient.done()
