"""Taking turns: serve while the Lease is held, let go in time, begin again."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from kip.app import turns
from kip.app.turns import CannotLetGo, Current, serve_in_turns
from kip.kube.fake import FakeApi
from kip.kube.lease import LeaseHolder
from kip.model.clock import ManualClock, settle
from kip.observe.metrics import Snapshot


class Serving:
    """Serves until it is told to break, or refuses to end."""

    def __init__(self, told: list[str], holder: LeaseHolder) -> None:
        self.told = told
        self.holder = holder
        self.breaks: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stubborn = False

    async def run(self) -> None:
        self.told.append("serving")
        try:
            await asyncio.shield(self.breaks)
        except asyncio.CancelledError:
            self.told.append("stopped")
            while self.stubborn:
                try:
                    await asyncio.sleep(10)
                except asyncio.CancelledError:
                    pass
            raise

    async def close(self) -> None:
        self.told.append(f"closed, {'still held' if self.holder.holding else 'lost'}")

    def snapshot(self) -> Snapshot:
        return Snapshot(phases=("Running",))

    def trouble(self) -> str | None:
        return "the first lists are under way"


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.api = FakeApi(clock=self.clock)
        self.holder = LeaseHolder(self.api, self.clock, namespace="kip", identity="me")
        self.told: list[str] = []
        self.made: list[Serving] = []
        self.current = Current()
        self.cannot: Exception | None = None
        self.leads: list[tuple[str, bool]] = []
        self.task = asyncio.create_task(
            serve_in_turns(self.holder, ["n-0"], self.make, self.current, self.clock, leads=self.lead)
        )

    def lead(self, node: str, *, holder: bool) -> None:
        self.leads.append((node, holder))

    def make(self, node: str) -> Serving:
        if self.cannot is not None:
            raise self.cannot
        self.made.append(Serving(self.told, self.holder))
        return self.made[-1]

    def lease(self) -> dict:
        return self.api.all("leases")[0]["spec"]


@pytest.fixture
async def world():
    made = World()
    await settle()
    yield made
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)


async def test_it_serves_what_it_holds_and_answers_for_it(world):
    assert world.told == ["serving"]
    assert world.leads == [("n-0", True)]
    assert world.current.snapshot().phases == ("Running",)
    assert world.current.trouble() == "the first lists are under way"


async def test_asked_to_end_it_lets_go_first_and_then_gives_the_lease_up(world):
    world.task.cancel()
    await asyncio.gather(world.task, return_exceptions=True)
    assert world.told == ["serving", "closed, still held", "stopped"] or world.told == [
        "serving",
        "stopped",
        "closed, still held",
    ]
    assert world.lease()["holderIdentity"] == ""
    assert world.leads == [("n-0", True), ("n-0", False)]


async def test_a_lost_lease_is_let_go_and_a_spare_is_no_broken_process(world):
    world.api.away = True
    await world.clock.advance(8)
    assert "closed, lost" in world.told
    assert "stopped" in world.told
    assert world.current.trouble() is None
    assert world.current.snapshot() == Snapshot()
    world.api.away = False
    await world.clock.advance(15)
    assert world.told.count("serving") == 2


async def test_serving_that_breaks_is_told_and_begun_again_ever_more_slowly(world):
    begun = []
    for _ in range(6):
        begun.append(world.clock.monotonic())
        world.made[-1].breaks.set_exception(OSError("address already in use"))
        await settle()
        assert world.current.trouble() == "serving n-0 broke off: OSError: address already in use"
        assert world.lease()["holderIdentity"] == "", "a spare may try"
        number = len(world.made)
        for _ in range(80):
            await world.clock.advance(0.5)
            if len(world.made) > number:
                break
    pauses = [round(b - a) for a, b in itertools.pairwise(begun)]
    assert pauses == sorted(pauses)
    assert pauses[0] <= 2
    assert pauses[-1] >= 15


async def test_serving_that_was_sound_for_long_begins_again_at_once(world):
    await world.clock.advance(600)
    world.made[-1].breaks.set_exception(RuntimeError("once"))
    await world.clock.advance(1.1)
    assert len(world.made) == 2


async def test_serving_that_cannot_even_be_made_is_no_end_of_the_process(world):
    world.cannot = ValueError("no such region")
    world.made[-1].breaks.set_exception(RuntimeError("once"))
    await world.clock.advance(5)
    assert not world.task.done()
    assert world.current.trouble() == "serving could not begin: no such region"
    assert world.lease()["holderIdentity"] == ""
    world.cannot = None
    await world.clock.advance(60)
    assert world.current.serving is world.made[-1]


async def test_of_many_errors_at_once_the_first_is_told(world):
    world.made[-1].breaks.set_exception(ExceptionGroup("many", [ExceptionGroup("x", [OSError("disk")])]))
    await settle()
    assert world.current.trouble() == "serving n-0 broke off: OSError: disk"


async def test_what_does_not_stop_ends_the_process(world, monkeypatch):
    """Its connections are cut and its writes are fenced, but two of them must not go on in one process."""
    monkeypatch.setattr(turns, "_LET_GO_S", 0.05)
    world.made[-1].stubborn = True
    world.api.away = True
    await world.clock.advance(8)
    with pytest.raises(CannotLetGo):
        await asyncio.wait_for(world.task, 5)
    assert "closed, lost" in world.told
    world.made[-1].stubborn = False
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
