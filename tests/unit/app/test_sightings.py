"""What was seen is noted, and what was missed is found."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from kip.app import sightings
from kip.app.sightings import Observer
from kip.cells.repository import CELLS_PATH, Cells
from kip.kube.errors import Unavailable
from kip.kube.fake import FakeApi
from kip.kube.store import PodStore
from kip.model.cell import new_cell_object
from kip.model.clock import ManualClock

NODE = "kip-provider-0"
PODS = "/api/v1/namespaces/shop/pods"


@dataclass
class Keeper:
    seen_nodes: list = field(default_factory=list)

    def seen(self, node):
        self.seen_nodes.append(node)


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.api = FakeApi(clock=self.clock)
        self.pods, self.cells, self.keeper = PodStore(), Cells(self.api, NODE), Keeper()
        self.marked: list[str] = []
        self.ended: list[str] = []
        self.observer = Observer(
            self.api,
            self.clock,
            node_name=NODE,
            pods=self.pods,
            cells=self.cells,
            keeper=self.keeper,
            mark=self.marked.append,
            ended_pod_gone=self.ended.append,
        )

    async def pod(self, name: str, node: str = NODE) -> dict:
        return await self.api.create(PODS, {"metadata": {"name": name}, "spec": {"nodeName": node}})


@pytest.fixture
def world():
    return World()


async def test_a_pod_that_was_seen_is_known_and_marked(world):
    pod = await world.pod("web")
    world.observer.pod(None, pod)
    assert world.pods.get(pod["metadata"]["uid"]) == pod
    assert world.marked == [pod["metadata"]["uid"]]


async def test_a_deleted_pod_is_forgotten_and_marked_and_an_ended_one_is_told_apart(world):
    running, ended = await world.pod("web"), await world.pod("job")
    ended["status"] = {"phase": "Succeeded"}
    for pod in (running, ended):
        world.observer.pod("ADDED", pod)
        world.observer.pod("DELETED", pod)
    assert world.pods.items() == []
    assert world.ended == [ended["metadata"]["uid"]]
    assert world.marked.count(running["metadata"]["uid"]) == 2


async def test_cells_come_and_go_under_their_pods_uid(world):
    cell = await world.api.create(CELLS_PATH, new_cell_object(await world.pod("web")))
    uid = cell["spec"]["podUID"]
    world.observer.cell("ADDED", cell)
    assert world.cells.get(uid).name == f"kip-{uid}"
    world.observer.cell("DELETED", cell)
    assert world.cells.get(uid) is None
    assert world.marked == [uid, uid]


async def test_a_cell_that_is_none_does_no_harm(world):
    cell = await world.api.create(CELLS_PATH, new_cell_object(await world.pod("web")))
    broken = {**cell, "status": {"launch": {"clientToken": "t"}}}
    world.observer.cell("MODIFIED", broken)
    world.observer.cell("DELETED", {"metadata": {"name": "x", "uid": "u"}})
    assert world.cells.all() == []


async def test_the_node_and_its_deletion_are_passed_on(world):
    world.observer.node("MODIFIED", {"metadata": {"name": NODE}})
    world.observer.node("DELETED", {"metadata": {"name": NODE}})
    assert world.keeper.seen_nodes == [{"metadata": {"name": NODE}}, None]


async def test_a_resync_takes_this_nodes_pods_and_marks_everything_once(world):
    mine, _ = await world.pod("mine"), await world.pod("other", node="somewhere")
    orphan = new_cell_object({**mine, "metadata": {**mine["metadata"], "uid": "gone"}})
    await world.api.create(CELLS_PATH, orphan)
    await world.observer.resync()
    assert [p["metadata"]["name"] for p in world.pods.items()] == ["mine"]
    assert sorted(world.marked) == sorted([mine["metadata"]["uid"], "gone"])
    assert world.pods.synced
    assert world.cells.synced


async def test_a_deletion_that_the_watch_lost_is_found(world):
    pod = await world.pod("web")
    world.observer.pod("ADDED", pod)
    await world.api.delete(f"{PODS}/web", {"gracePeriodSeconds": 0})
    await world.observer.resync()
    assert world.pods.items() == []


async def test_a_missing_definition_of_cells_is_said_in_words(world):
    world.api.fail("GET", CELLS_PATH, status=404)
    with pytest.raises(Unavailable, match="CustomResourceDefinition installed"):
        await world.observer.resync()
    assert not world.cells.synced


async def test_it_resyncs_again_and_again_and_at_once_when_asked(world, monkeypatch):
    monkeypatch.setattr(sightings, "_FIRST_S", 0.01)
    monkeypatch.setattr(sightings, "RESYNC_S", 60.0)
    monkeypatch.setattr(sightings, "_AGAIN_S", 0.01)
    lists = lambda: sum(r.path == CELLS_PATH for r in world.api.requests)  # noqa: E731
    world.api.fail("GET", CELLS_PATH, status=500, times=3)
    task = asyncio.create_task(world.observer.run())
    await asyncio.sleep(0.3)
    assert lists() == 4, "three failures, each repeated soon"
    world.observer.poke()
    await asyncio.sleep(0.05)
    assert lists() == 5
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
