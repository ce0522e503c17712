"""Emptying the nodes and stopping Kip's processes, against a cluster in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kip.cells.repository import CELLS_PATH
from kip.cleanup.ending import Ending, NotEnded
from kip.cleanup.look import Places
from kip.cloud.fake import FakeCloud
from kip.kube.fake import FakeApi
from kip.model.cell import new_cell_object
from kip.model.clock import ManualClock

NODE = "kip-provider-0"
DEPLOYMENTS = "/apis/apps/v1/namespaces/kip/deployments"


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.api = FakeApi(clock=self.clock)
        cloud = FakeCloud(clock=self.clock)
        self.told: list[str] = []
        places = Places(self.api, cloud, cloud, cloud, self.clock)
        self.ending = Ending(places, tell=self.told.append, timeout_s=30)

    async def pod(self, name: str, **more: Any) -> None:
        body = {
            "metadata": {"name": name},
            "spec": {"nodeName": NODE},
            "status": {"phase": "Running"},
            **more,
        }
        pod = await self.api.create("/api/v1/namespaces/shop/pods", body)
        await self.api.create(CELLS_PATH, new_cell_object(pod))

    async def end(self, name: str) -> None:
        """What Kip does when the pod has been told to go."""
        pod = next(pod for pod in self.api.all("pods") if pod["metadata"]["name"] == name)
        await self.api.patch(f"{CELLS_PATH}/kip-{pod['metadata']['uid']}", {"metadata": {"finalizers": []}})
        await self.api.delete(f"{CELLS_PATH}/kip-{pod['metadata']['uid']}")
        await self.api.delete(f"/api/v1/namespaces/shop/pods/{name}", {"gracePeriodSeconds": 0})


@pytest.fixture
async def world() -> World:
    made = World()
    await made.api.create("/api/v1/nodes", {"metadata": {"name": NODE}, "spec": {}})
    return made


async def test_pods_are_evicted_from_a_closed_node_and_their_cells_are_waited_for(world: World) -> None:
    await world.pod("web")
    await world.pod("db")
    task = asyncio.ensure_future(world.ending.drain([NODE]))
    await world.clock.advance(3)
    (node,) = world.api.all("nodes")
    assert node["spec"]["unschedulable"] is True
    assert all(pod["metadata"]["deletionTimestamp"] for pod in world.api.all("pods"))
    assert {"evicted shop/web", "evicted shop/db"} <= set(world.told)
    assert not task.done(), "their machines run"
    for name in ("web", "db"):
        await world.end(name)
    await world.clock.finish(task)
    assert world.told.count("evicted shop/web") == 1


async def test_a_disruption_budget_is_kept_to_until_it_allows(world: World) -> None:
    await world.pod("web")
    world.api.fail("POST", "/eviction", status=429, times=3)
    task = asyncio.ensure_future(world.ending.drain([NODE]))
    await world.clock.advance(5)
    assert not any("deletionTimestamp" in pod["metadata"] for pod in world.api.all("pods"))
    await world.clock.advance(5)
    assert "evicted shop/web" in world.told
    await world.end("web")
    await world.clock.finish(task)


async def test_what_does_not_end_is_listed(world: World) -> None:
    await world.pod("web")
    world.api.fail("POST", "/eviction", status=429, times=100)
    with pytest.raises(NotEnded, match=r"within 30 s; left: pod shop/web \(.*429.*\), cell kip-"):
        await world.clock.finish(world.ending.drain([NODE]))


async def test_pods_that_have_ended_are_not_evicted(world: World) -> None:
    await world.pod("job", status={"phase": "Succeeded"})
    await world.end("job")
    await world.clock.finish(world.ending.drain([NODE]))
    assert not [line for line in world.told if "evicted" in line]


async def test_the_deployment_is_scaled_to_nothing_and_its_processes_are_waited_for(world: World) -> None:
    body = {"metadata": {"name": "kip-provider"}, "spec": {"replicas": 2}, "status": {"replicas": 2}}
    await world.api.create(DEPLOYMENTS, body)
    task = asyncio.ensure_future(world.ending.stop("kip", "kip-provider"))
    await world.clock.advance(3)
    (deployment,) = world.api.all("deployments")
    assert deployment["spec"]["replicas"] == 0
    assert not task.done()
    await world.api.patch(f"{DEPLOYMENTS}/kip-provider", {"status": {"replicas": None}})
    await world.clock.finish(task)


async def test_processes_that_do_not_end_are_told(world: World) -> None:
    body = {"metadata": {"name": "kip-provider"}, "spec": {"replicas": 2}, "status": {"replicas": 2}}
    await world.api.create(DEPLOYMENTS, body)
    with pytest.raises(NotEnded, match="processes have not ended within 30 s; left: 2 of them"):
        await world.clock.finish(world.ending.stop("kip", "kip-provider"))


async def test_where_the_deployment_is_gone_nothing_is_stopped(world: World) -> None:
    await world.clock.finish(world.ending.stop("kip", "kip-provider"))
    assert world.told == []
