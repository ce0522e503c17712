"""What is wanted is seen to, so many at a time, and again after a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kip.imagecache.queue import Queue, Verdict
from kip.imagecache.wants import Want
from kip.model.clock import ManualClock, settle
from kip.oci.reference import parse


def want(name: str, *pods: str) -> Want:
    found = tuple({"metadata": {"uid": uid, "name": uid, "namespace": "shop"}} for uid in pods)
    return Want(parse(name), "linux/amd64", "pod", found)


class Work:
    """Ends when it is told to."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.running: dict[str, asyncio.Future[Verdict]] = {}

    async def __call__(self, want: Want) -> Verdict:
        name = want.reference.repository.path.removeprefix("library/")
        self.begun.append(name)
        self.running[name] = asyncio.get_running_loop().create_future()
        try:
            return await self.running[name]
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise

    async def end(self, name: str, verdict: Verdict = "done") -> None:
        self.running.pop(name).set_result(verdict)
        await settle()


class Bench:
    """A queue at work."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.work = Work()
        self.told: list[dict[str, int]] = []
        self.queue = Queue(
            self.work,
            self.clock,
            parallel=2,
            again_s=900,
            changed=lambda states: self.told.append(dict(states)),
        )

    async def wants(self, *wants: Want) -> None:
        self.queue.update(wants)
        await settle()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    task = asyncio.create_task(bench.queue.run())
    await settle()
    yield bench
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_so_many_at_a_time_the_most_urgent_first(bench: Bench) -> None:
    await bench.wants(want("a"), want("b"), want("c"))
    assert bench.work.begun == ["a", "b"]
    assert bench.told[-1] == {"running": 2, "waiting": 1}
    await bench.work.end("b")
    assert bench.work.begun == ["a", "b", "c"]


async def test_a_cached_image_is_looked_at_again_after_a_while(bench: Bench) -> None:
    await bench.wants(want("a"))
    await bench.work.end("a")
    assert bench.told[-1] == {}
    await bench.clock.advance(899)
    assert bench.work.begun == ["a"]
    await bench.clock.advance(1)
    assert bench.work.begun == ["a", "a"]


async def test_a_failure_is_repeated_later_each_time(bench: Bench) -> None:
    await bench.wants(want("a"))
    await bench.work.end("a", "failed")
    assert bench.told[-1] == {"failed": 1}
    await bench.clock.advance(14)
    assert bench.work.begun == ["a"]
    await bench.clock.advance(1)
    await bench.work.end("a", "failed")
    await bench.clock.advance(29)
    assert bench.work.begun == ["a", "a"]
    await bench.clock.advance(1)
    assert bench.work.begun == ["a", "a", "a"]


async def test_another_pod_may_succeed_where_one_has_failed(bench: Bench) -> None:
    await bench.wants(want("a", "one"))
    await bench.work.end("a", "failed")
    await bench.wants(want("a", "one"))
    assert bench.work.begun == ["a"]
    await bench.wants(want("a", "one", "two"))
    assert bench.work.begun == ["a", "a"]


async def test_nothing_new_begins_while_it_is_stopped(bench: Bench) -> None:
    bench.queue.stop("the volume is full")
    await bench.wants(want("a"))
    assert not bench.work.begun
    bench.queue.stop("")
    await settle()
    assert bench.work.begun == ["a"]


async def test_what_nobody_wants_any_more_is_finished_and_forgotten(bench: Bench) -> None:
    await bench.wants(want("a"))
    await bench.wants()
    assert bench.told[-1] == {"running": 1}
    await bench.work.end("a", "failed")
    await bench.wants()
    assert bench.told[-1] == {}


async def test_at_the_end_what_is_under_way_is_cancelled_and_waited_for() -> None:
    bench = Bench()
    task = asyncio.create_task(bench.queue.run())
    await bench.wants(want("a"), want("b"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.work.cancelled == ["a", "b"]
