"""The virtual node stays in the cluster, whatever is done to it, at little cost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from kip.kube.errors import Unavailable
from kip.kube.fake import FakeApi
from kip.model.clock import ManualClock
from kip.node import keeper as keeper_module
from kip.node.keeper import NodeKeeper
from kip.node.object import HEALTHY, Health, NodeOptions

NAME = "kip-provider-0"
NODE = f"/api/v1/nodes/{NAME}"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{NAME}"


@dataclass
class Kept:
    clock: ManualClock
    api: FakeApi
    keeper: NodeKeeper
    health: Health = HEALTHY


@pytest.fixture
def kept():
    clock = ManualClock()
    api = FakeApi(clock=clock)
    options = NodeOptions(NAME, "blue", "10.0.0.7", 10250, {"cpu": "1"}, labels={"team": "core"})
    made = Kept(clock, api, NodeKeeper(api, clock, options, health=lambda: made.health))
    return made


async def test_the_first_beat_makes_node_status_and_lease(kept):
    await kept.keeper.start()
    node = await kept.api.get(NODE)
    assert node["metadata"]["labels"]["team"] == "core"
    assert node["status"]["addresses"] == [{"type": "InternalIP", "address": "10.0.0.7"}]
    lease = await kept.api.get(LEASE)
    [owner] = lease["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Node", node["metadata"]["uid"])
    assert lease["spec"]["leaseDurationSeconds"] == 40
    assert kept.keeper.node["metadata"]["uid"] == node["metadata"]["uid"]


async def test_a_beat_costs_a_look_and_a_lease_and_the_status_is_told_every_five_minutes(kept):
    await kept.keeper.start()
    before = len(kept.api.writes())
    for _ in range(29):
        await kept.clock.advance(10)
        await kept.keeper.beat()
    writes = [r.path for r in kept.api.writes()[before:]]
    assert writes == [LEASE] * 29
    await kept.clock.advance(10)
    await kept.keeper.beat()
    assert f"{NODE}/status" in [r.path for r in kept.api.writes()[before:]]


async def test_a_change_of_health_is_told_at_the_next_beat(kept):
    await kept.keeper.start()
    kept.health = Health(ready=False, reason="CloudUnreachable", message="timed out")
    await kept.keeper.beat()
    node = await kept.api.get(NODE)
    ready = next(c for c in node["status"]["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "CloudUnreachable")


async def test_a_deleted_node_comes_back_with_its_status_and_a_lease_that_is_its_own(kept):
    await kept.keeper.start()
    await kept.api.delete(NODE)
    await kept.keeper.beat()
    node = await kept.api.get(NODE)
    assert node["status"]["capacity"] == {"cpu": "1"}
    lease = await kept.api.get(LEASE)
    assert lease["metadata"]["ownerReferences"][0]["uid"] == node["metadata"]["uid"]


async def test_what_others_changed_of_ours_is_mended_and_what_is_theirs_stays(kept):
    await kept.keeper.start()
    theirs = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    await kept.api.patch(
        NODE,
        {
            "metadata": {"labels": {"type": "something", "theirs": "1"}},
            "spec": {"taints": [theirs], "providerID": None, "unschedulable": True},
        },
    )
    await kept.keeper.beat()
    node = await kept.api.get(NODE)
    assert node["metadata"]["labels"]["type"] == "virtual-kubelet"
    assert node["metadata"]["labels"]["theirs"] == "1"
    assert [t["key"] for t in node["spec"]["taints"]] == [theirs["key"], "virtual-kubelet.io/provider"]
    assert node["spec"]["providerID"] == f"kip://blue/{NAME}"
    assert node["spec"]["unschedulable"] is True


async def test_what_is_configured_no_more_goes_once_and_for_all(kept):
    await kept.keeper.start()
    options = NodeOptions(NAME, "blue", "10.0.0.7", 10250, {"memory": "1024Mi"})
    later = NodeKeeper(kept.api, kept.clock, options, health=lambda: HEALTHY)
    await later.start()
    node = await kept.api.get(NODE)
    assert "team" not in node["metadata"]["labels"]
    assert node["status"]["capacity"] == node["status"]["allocatable"] == {"memory": "1024Mi"}
    # As the API server would have written it.
    canonical = {"capacity": {"memory": "1Gi"}, "allocatable": {"memory": "1Gi"}}
    await kept.api.patch(f"{NODE}/status", {"status": canonical})
    before = len(kept.api.writes())
    await later.beat()
    assert [r.path for r in kept.api.writes()[before:]] == [LEASE]


async def test_another_process_may_create_it_first(kept):
    await kept.api.create("/api/v1/nodes", {"metadata": {"name": NAME}, "spec": {}})
    kept.api.fail("GET", NODE, status=404)
    await kept.keeper.start()
    node = await kept.api.get(NODE)
    assert node["metadata"]["labels"]["type"] == "virtual-kubelet"


async def test_the_first_beat_raises_what_keeps_it_from_serving(kept):
    kept.api.away = True
    with pytest.raises(Unavailable):
        await kept.keeper.start()


class Beating(NodeKeeper):
    """Counts its beats; something happens during the first."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self.beats = 0
        self.trouble: Exception | None = None

    async def beat(self) -> None:
        self.beats += 1
        if self.beats == 1:
            self.poke()
        await asyncio.sleep(0)
        if self.trouble is not None:
            raise self.trouble


@pytest.fixture
async def beating(kept, monkeypatch):
    monkeypatch.setattr(keeper_module, "RENEW_S", 60.0)
    monkeypatch.setattr(keeper_module, "_RETRY_S", 0.01)
    made = Beating(kept.api, kept.clock, kept.keeper._options, health=lambda: HEALTHY)
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_changes_during_a_beat_brings_another_one_at_once(beating):
    await asyncio.sleep(0.05)
    assert beating.beats == 2


async def test_a_deletion_that_is_seen_wakes_it(beating):
    await asyncio.sleep(0.05)
    beating.seen(None)
    assert beating.node is None
    await asyncio.sleep(0.05)
    assert beating.beats == 3


async def test_while_it_fails_it_says_so_and_tries_often(beating):
    beating.trouble = Unavailable("refused")
    beating.poke()
    await asyncio.sleep(0.3)
    assert beating.beats >= 5
    assert str(beating.last_error) == "refused"
    beating.trouble = None
    await asyncio.sleep(0.1)
    assert beating.last_error is None
