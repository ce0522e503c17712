"""What decides about a pod's zone besides the pod: its volumes, and where its like are."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.doubles.samples import intent, planner

from kip.cells.launch import NoOffer
from kip.cells.neighbourhood import Neighbourhood
from kip.cells.repository import CELLS_PATH, Cells
from kip.kube.errors import Unavailable
from kip.kube.fake import FakeApi
from kip.kube.store import PodStore
from kip.model.cell import new_cell_object
from kip.model.clock import ManualClock
from kip.pods.spread import Neighbour

NODE, ZONE = "kip-provider-0", "topology.kubernetes.io/zone"
SPREAD = {
    "topologyKey": ZONE,
    "maxSkew": 1,
    "whenUnsatisfiable": "DoNotSchedule",
    "labelSelector": {"matchLabels": {"app": "web"}},
}
VOLUMES = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]


def pod(uid: str, namespace: str = "shop", **more: Any) -> dict[str, Any]:
    metadata = {
        "name": uid,
        "namespace": namespace,
        "uid": uid,
        "resourceVersion": "1",
        "labels": {"app": "web"},
    }
    spec = {
        "nodeName": NODE,
        "containers": [{"name": "main", "resources": {"requests": {"cpu": "1"}}}],
        "topologySpreadConstraints": [SPREAD],
        **more.pop("spec", {}),
    }
    return {"metadata": {**metadata, **more.pop("metadata", {})}, "spec": spec, **more}


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.api = FakeApi(clock=self.clock)
        self.pods = PodStore()
        self.cells = Cells(self.api, NODE)
        self.around = Neighbourhood(self.api, self.pods, self.cells)

    def zones(self, of: dict[str, Any]) -> list[str]:
        return sorted(neighbour.zone for neighbour in self.around.neighbours(of))

    async def cell(self, of: dict[str, Any], **changes: Any) -> None:
        self.pods.put(of)
        cell = self.cells.put(await self.api.create(CELLS_PATH, new_cell_object(of)))
        await self.cells.save(replace(cell, **changes))

    async def volume(self, zone: str | None, *, bound: bool = True) -> None:
        terms = [{"matchExpressions": [{"key": ZONE, "operator": "In", "values": [zone]}]}]
        await self.api.create(
            "/api/v1/namespaces/shop/persistentvolumeclaims",
            {"metadata": {"name": "data"}, "spec": {"volumeName": "pv-1"} if bound else {}},
        )
        affinity = {"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}} if zone else {}
        await self.api.create("/api/v1/persistentvolumes", {"metadata": {"name": "pv-1"}, "spec": affinity})


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("zone", "bound", "expected"),
    [("us-east-1b", True, {"us-east-1b"}), (None, True, None), ("us-east-1b", False, None)],
)
async def test_the_zone_of_a_bound_volume(
    world: World, zone: str | None, bound: bool, expected: set[str] | None
) -> None:
    await world.volume(zone, bound=bound)
    assert await world.around.volume_zones(pod("a", spec={"volumes": VOLUMES})) == expected


async def test_nothing_is_asked_for_a_pod_without_claims(world: World) -> None:
    world.api.fail("GET", "", status=500, times=99)
    assert (
        await world.around.volume_zones(pod("a", spec={"volumes": [{"name": "t", "emptyDir": {}}]})) is None
    )


async def test_a_claim_that_there_is_not_is_left_to_the_kubelet(world: World) -> None:
    assert await world.around.volume_zones(pod("a", spec={"volumes": VOLUMES})) is None


async def test_without_the_permission_volumes_are_not_known_which_is_said_once(world: World) -> None:
    await world.volume("us-east-1b")
    world.api.fail("GET", "persistentvolume", status=403, times=2)
    with capture_logs() as logs:
        for _ in range(2):
            assert await world.around.volume_zones(pod("a", spec={"volumes": VOLUMES})) is None
    assert [entry["event"] for entry in logs] == ["zones of volumes are not known"]


async def test_an_api_server_that_does_not_answer_is_waited_for(world: World) -> None:
    await world.volume("us-east-1b")
    world.api.fail("GET", "persistentvolumes", status=503)
    with pytest.raises(Unavailable):
        await world.around.volume_zones(pod("a", spec={"volumes": VOLUMES}))


async def test_neighbours_are_where_their_cells_are_or_will_be(world: World) -> None:
    await world.cell(pod("running"), zone="a")
    await world.cell(pod("launching"), intent=intent(zone="c"))
    await world.cell(pod("elsewhere", namespace="other"), zone="a")
    await world.cell(pod("done", status={"phase": "Succeeded"}), zone="a")
    await world.cell(pod("ending", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}), zone="a")
    world.pods.put(pod("planned"))
    world.pods.put(pod("waiting"))
    world.around.expect(pod("planned"), "b")
    assert world.zones(pod("new")) == ["a", "b", "c"]
    assert world.zones(pod("running")) == ["b", "c"], "a pod is no neighbour of its own"
    assert Neighbour({"app": "web"}, "b") in world.around.neighbours(pod("new"))
    world.around.expect(pod("planned"), None)
    assert world.zones(pod("new")) == ["a", "c"]
    assert world.zones(pod("indifferent", spec={"topologySpreadConstraints": []})) == []


async def test_pods_that_come_at_once_are_spread(world: World) -> None:
    """Before any of them has a Cell: each is planned twice, to be admitted and to be launched."""
    subject = planner(clock=world.clock, around=world.around)
    pods = [pod(f"p{number}") for number in range(10)]
    for one in pods:
        world.pods.put(one)
    for _ in range(2):
        plans = await asyncio.gather(*(subject.plan(one) for one in pods))
        assert Counter(specs[0].zone for specs in plans) == {"us-east-1a": 5, "us-east-1b": 5}
    stuck = pod("stuck", spec={"nodeSelector": {ZONE: "us-east-1f"}})
    world.pods.put(stuck)
    with pytest.raises(NoOffer):
        await subject.plan(stuck)
    assert len(world.zones(pod("another"))) == 10
