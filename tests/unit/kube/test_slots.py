"""Places for requests: none is lost, few are for those who can wait."""

from __future__ import annotations

import asyncio

import pytest

from kip.kube.slots import Slots, patiently


class Crowd:
    """Requests that last until they are told to end."""

    def __init__(self, most: int, few: int) -> None:
        self.slots = Slots(most, few=few)
        self.inside: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.ends: dict[str, asyncio.Event] = {}

    async def _one(self, name: str) -> None:
        async with self.slots.one():
            self.inside.append(name)
            try:
                await self.ends[name].wait()
            finally:
                self.inside.remove(name)

    async def come(self, *names: str) -> None:
        """Those whose name begins with a p are patient."""
        for name in names:
            self.ends[name] = asyncio.Event()
            if name.startswith("p"):
                with patiently():
                    self.tasks[name] = asyncio.create_task(self._one(name))
            else:
                self.tasks[name] = asyncio.create_task(self._one(name))
        await self._settle()

    async def go(self, *names: str) -> None:
        for name in names:
            self.ends[name].set()
        await self._settle()

    async def cancel(self, *names: str) -> None:
        for name in names:
            self.tasks[name].cancel()
        await self._settle()

    async def _settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


async def test_so_many_at_once_in_the_order_of_their_coming() -> None:
    crowd = Crowd(2, 1)
    await crowd.come("a", "b", "c", "d")
    assert crowd.inside == ["a", "b"]
    await crowd.go("b")
    assert crowd.inside == ["a", "c"]
    await crowd.go("a", "c")
    assert crowd.inside == ["d"]


async def test_the_patient_may_have_all_while_they_are_among_themselves() -> None:
    crowd = Crowd(3, 1)
    await crowd.come("p1", "p2", "p3", "p4")
    assert crowd.inside == ["p1", "p2", "p3"]
    await crowd.come("a")
    await crowd.go("p1")
    assert crowd.inside == ["p2", "p3", "a"], "who comes now goes first"
    await crowd.go("p2", "p3")
    assert crowd.inside == ["a", "p4"]


async def test_the_patient_have_few_while_there_are_others_but_these_they_have() -> None:
    crowd = Crowd(3, 1)
    await crowd.come("a", "p1", "p2", "b")
    assert crowd.inside == ["a", "p1", "b"]
    await crowd.come("c", "d")
    await crowd.go("p1")
    assert crowd.inside == ["a", "b", "p2"]
    await crowd.go("a", "b")
    assert crowd.inside == ["p2", "c", "d"]


async def test_once_the_others_are_gone_the_patient_have_all() -> None:
    crowd = Crowd(3, 1)
    await crowd.come("a", "p1", "p2", "p3")
    assert crowd.inside == ["a", "p1"]
    await crowd.go("a")
    assert crowd.inside == ["p1", "p2", "p3"]


@pytest.mark.parametrize("kind", ["a", "p"])
async def test_who_gives_up_waiting_takes_no_place(kind: str) -> None:
    crowd = Crowd(1, 1)
    await crowd.come("x", f"{kind}1", f"{kind}2")
    await crowd.cancel(f"{kind}1")
    await crowd.go("x")
    assert crowd.inside == [f"{kind}2"]


async def test_who_gives_up_at_the_moment_of_their_turn_gives_the_place_on() -> None:
    crowd = Crowd(1, 1)
    await crowd.come("x", "a", "b")
    crowd.ends["x"].set()
    await asyncio.sleep(0)  # x goes, and gives its place to a, who is about to hear of it
    await asyncio.sleep(0)
    crowd.tasks["a"].cancel()
    await crowd.go()
    assert crowd.inside == ["b"]


async def test_who_is_cancelled_inside_frees_the_place() -> None:
    crowd = Crowd(1, 1)
    await crowd.come("a", "b")
    await crowd.cancel("a")
    assert crowd.inside == ["b"]


async def test_patience_ends_with_its_block() -> None:
    crowd = Crowd(2, 1)
    with patiently():
        pass
    await crowd.come("a", "b")
    assert crowd.inside == ["a", "b"]
