"""Work that nobody waits for is kept until it ends, or is cancelled with all the rest."""

from __future__ import annotations

import asyncio
import gc
import weakref

from kip.model.background import Background


async def test_work_is_kept_while_nothing_else_refers_to_it() -> None:
    background = Background()
    tasks: list[weakref.ref[asyncio.Task[None]]] = []

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(weakref.ref(task))
        await asyncio.get_running_loop().create_future()

    background.start(work())
    await asyncio.sleep(0)
    gc.collect()
    assert tasks[0]() is not None
    await background.close()


async def test_closing_cancels_what_is_under_way_and_waits_for_its_end() -> None:
    background, ended = Background(), []

    async def work(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(name)

    background.start(work("a"))
    background.start(work("b"))
    await asyncio.sleep(0)
    await background.close()
    assert sorted(ended) == ["a", "b"]


async def test_cancelling_does_not_wait() -> None:
    background, ended = Background(), []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    background.start(work())
    await asyncio.sleep(0)
    background.cancel()
    assert ended == []
    await background.close()
    assert ended == ["ended"]
