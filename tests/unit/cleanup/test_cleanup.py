"""Finding and removing, against a cluster and a cloud in memory; broken off and begun again at any step."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.doubles.samples import launched

from kip.cells.repository import CELLS_PATH
from kip.cleanup.execute import Cleanup, Outcome
from kip.cleanup.look import Places, look
from kip.cleanup.plan import Found, by_kind, plan
from kip.cloud.base import Instance
from kip.cloud.errors import CloudError, NotAuthorized, Unreachable
from kip.cloud.fake import FakeCloud
from kip.cloud.fake_efs import FakeEfs
from kip.kube.fake import FakeApi
from kip.model import names
from kip.model.cell import new_cell_object
from kip.model.clock import ManualClock

NODE, NET = "kip-provider-0", "172.20.0.0/16"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"


class SlowCloud(FakeCloud):
    """Instances take some looks to end."""

    looks = 0

    async def terminate(self, ids: Any) -> None:
        for id_ in ids:
            self.set_state(id_, "shutting-down")
        await self._enter("TerminateInstances", tuple(ids))

    async def describe_ids(self, ids: Any) -> list[Instance]:
        self.looks += 1
        if self.looks == 3:
            await super().terminate([])
            for id_ in ids:
                self.set_state(id_, "terminated")
        return await super().describe_ids(ids)


class World:
    def __init__(self, cloud: FakeCloud | None = None) -> None:
        self.clock = ManualClock()
        self.api = FakeApi(clock=self.clock)
        self.cloud = cloud or FakeCloud(clock=self.clock)
        self.places = Places(self.api, self.cloud, self.cloud, self.cloud, self.clock)
        self.told: list[str] = []

    async def look(self) -> Found:
        return await self.clock.finish(look(self.places, cluster="blue", node_names=(NODE,), namespace="kip"))

    async def clean(self, *, timeout_s: float = 60) -> Outcome:
        todo = plan(await self.look())
        return await self.clock.finish(
            Cleanup(self.places, tell=self.told.append, timeout_s=timeout_s).run(todo)
        )

    async def instance(self, name: str, **tags: str) -> Instance:
        cluster = tags.get("cluster", "blue")
        own = {names.TAG_CLUSTER: cluster, names.TAG_NODE: NODE}
        return await launched(self.cloud, name, cluster=cluster, tags=own)

    async def cell(self, name: str, instance: Instance, *cidrs: str) -> None:
        pod = {"metadata": {"name": name, "namespace": "shop", "uid": name}, "spec": {"nodeName": NODE}}
        cell = await self.api.create(CELLS_PATH, new_cell_object(pod))
        routes = {
            "networkInterfaceID": instance.network_interface_id,
            "vpcID": self.cloud.vpc_id,
            "subnetID": instance.subnet_id,
            "cidrs": list(cidrs),
        }
        status = {"instanceID": instance.id, "cloudRoutes": routes if cidrs else None}
        await self.api.patch(f"{CELLS_PATH}/{cell['metadata']['name']}/status", {"status": status})
        for cidr in cidrs:
            await self.cloud.create_route("rtb-main", cidr, instance.network_interface_id or "")

    async def node(self, name: str, provider_id: str) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name},
            "spec": {"providerID": provider_id},
        }
        await self.api.create("/api/v1/nodes", body)

    async def lease(self, namespace: str, holder: str | None, name: str = NODE) -> None:
        spec = {
            "holderIdentity": holder,
            "leaseDurationSeconds": 10,
            "renewTime": "2026-01-01T00:00:00.000000Z",
        }
        await self.api.create(LEASES.format(namespace), {"metadata": {"name": name}, "spec": spec})

    async def secret(self, called: str, **labels: str) -> None:
        metadata = {
            "name": called,
            "labels": {f"app.kubernetes.io/{key}": value for key, value in labels.items()},
        }
        await self.api.create("/api/v1/namespaces/kip/secrets", {"metadata": metadata})

    async def installation(self) -> None:
        await self.cell("web", await self.instance("web"))
        await self.cell("gate", await self.instance("gate"), NET)
        await self.instance("orphan")
        await self.node(NODE, names.provider_id("blue", NODE))
        await self.lease("kip", "kip-dead")
        await self.lease("kube-node-lease", NODE)
        await self.secret("kip-keys", name="kip")
        await self.secret("kip-logs-1", **{"managed-by": "kip"})

    async def is_clean(self) -> bool:
        return (
            not (await self.look()).instances
            and not plan(await self.look()).steps
            and not self.cloud.routes.to_interfaces()
            and self.api.all("cells") == self.api.all("nodes") == []
            and self.api.all("leases") == self.api.all("secrets") == []
        )


@pytest.fixture
def world() -> World:
    return World()


async def test_everything_goes_and_a_second_run_finds_nothing(world: World) -> None:
    await world.installation()
    todo = plan(await world.look())
    assert {kind: len(steps) for kind, steps in by_kind(todo.steps).items()} == {
        "route": 1,
        "instance": 3,
        "cell": 2,
        "node": 1,
        "lease": 2,
        "secret": 2,
        "security group": 1,
    }
    assert todo.refusals == (), "a Lease that nobody renews holds nobody up"
    outcome = await world.clean()
    assert (len(outcome.done), outcome.failed) == (12, [])
    assert await world.is_clean()
    assert (await world.clean()).done == []


async def test_what_is_another_clusters_or_somebody_elses_stays(world: World) -> None:
    theirs = await world.instance("theirs", cluster="green")
    await world.cloud.create_route("rtb-main", NET, theirs.network_interface_id or "")
    await world.node("worker", "aws:///us-east-1a/i-1")
    await world.node(NODE, names.provider_id("green", NODE))
    await world.lease("kube-node-lease", "worker", "worker")
    await world.lease("kube-node-lease", NODE)
    found = await world.look()
    assert plan(found).steps == ()
    await world.clean()
    assert (await world.cloud.describe_ids([theirs.id]))[0].state == "running"
    assert len(world.api.all("nodes")) == len(world.api.all("leases")) == 2
    assert len(world.cloud.routes.to_interfaces()) == 1


async def test_a_lease_that_is_renewed_while_we_look_has_a_living_holder(world: World) -> None:
    await world.lease("kip", "kip-alive")
    task = asyncio.ensure_future(look(world.places, cluster="blue", node_names=(NODE,), namespace="kip"))
    await world.clock.advance(3)
    assert not task.done()
    renewed = {"spec": {"renewTime": "2026-01-01T00:00:02.000000Z"}}
    await world.api.patch(f"{LEASES.format('kip')}/{NODE}", renewed)
    found = await world.clock.finish(task)
    assert found.operators == ((NODE, "kip-alive"),)
    assert plan(found).refusals


async def test_a_lease_that_was_given_up_costs_no_waiting(world: World) -> None:
    await world.lease("kip", "")
    before = world.clock.monotonic()
    assert (await look(world.places, cluster="blue", node_names=(NODE,), namespace="kip")).operators == ()
    assert world.clock.monotonic() == before


async def test_pods_on_nodes_of_before_count_too(world: World) -> None:
    await world.node("kip-provider-7", names.provider_id("blue", "kip-provider-7"))
    pod = {
        "metadata": {"name": "web"},
        "spec": {"nodeName": "kip-provider-7"},
        "status": {"phase": "Running"},
    }
    await world.api.create("/api/v1/namespaces/shop/pods", pod)
    assert "shop/web" in plan(await world.look()).refusals[0]


async def test_without_the_type_cell_there_are_none(world: World) -> None:
    world.api.fail("GET", "/cells", status=404)
    await world.instance("orphan")
    outcome = await world.clean()
    assert [step.kind for step in outcome.done] == ["instance", "security group"]


async def test_it_waits_for_instances_and_says_how_far_it_is(world: World) -> None:
    world = World(SlowCloud())
    await world.installation()
    outcome = await world.clean()
    assert outcome.failed == []
    assert "waiting for instances: 3 shutting-down" in world.told
    assert world.told.count("waiting for instances: 3 shutting-down") == 1
    assert await world.is_clean()


async def test_a_security_group_is_waited_for(world: World) -> None:
    await world.installation()
    busy = CloudError("in use", action="DeleteSecurityGroup", code="DependencyViolation")
    world.cloud.fail("DeleteSecurityGroup", busy, times=4)
    assert (await world.clean()).failed == []
    assert await world.is_clean()


async def test_a_security_group_that_another_groups_rule_names_is_not_waited_for(world: World) -> None:
    world = World(FakeEfs())
    await world.installation()
    (cells,) = await world.cloud.cell_security_groups("blue")
    volume = await world.cloud.create_nfs_group("blue", cells.vpc_id)
    await world.cloud.admit(volume.id, [cells.id])
    began = world.clock.monotonic()
    ((step, why),) = (await world.clean(timeout_s=600)).failed
    assert step.name == cells.id
    assert f"rules of {volume.id} (kip-blue-efs-mt) name it" in why
    assert "kip efs teardown" in why
    assert world.clock.monotonic() - began < 60
    await world.cloud.delete_security_group(volume.id)
    assert (await world.clean()).failed == []


async def test_what_does_not_go_is_said_and_so_is_what_depends_on_it(world: World) -> None:
    await world.installation()
    world.cloud.fail("TerminateInstances", NotAuthorized("no", action="TerminateInstances"))
    outcome = await world.clean()
    failed = {(step.kind, step.name): why for step, why in outcome.failed}
    assert {kind for kind, _ in failed} == {"instance", "cell", "secret", "security group"}
    assert all("ec2:TerminateInstances" in why for (kind, _), why in failed.items() if kind == "instance")
    assert {step.kind for step in outcome.done} == {"route", "node", "lease"}
    assert (await world.clean()).failed == []
    assert await world.is_clean()


async def test_instances_that_take_too_long_are_not_waited_for_for_ever(world: World) -> None:
    class NeverEnding(SlowCloud):
        looks = 100

    world = World(NeverEnding())
    await world.installation()
    outcome = await world.clean(timeout_s=20)
    assert {why for step, why in outcome.failed if step.kind == "instance"} == {"not ended within 20 s"}


async def test_secrets_of_others_stay(world: World) -> None:
    await world.secret("sh.helm.release.v1.kip.v1", name="helm")
    assert plan(await world.look()).steps == ()


async def test_other_finalizers_of_a_cell_stay(world: World) -> None:
    await world.cell("web", await world.instance("web"))
    path = f"{CELLS_PATH}/kip-web"
    await world.api.patch(path, {"metadata": {"finalizers": [names.CELL_FINALIZER, "example.com/audit"]}})
    await world.clean()
    (cell,) = world.api.all("cells")
    assert cell["metadata"]["finalizers"] == ["example.com/audit"]


@pytest.mark.parametrize(
    "action", ["DeleteRoute", "TerminateInstances", "DeleteSecurityGroup", "DescribeInstances"]
)
async def test_broken_off_at_any_call_it_can_be_run_again(world: World, action: str) -> None:
    await world.installation()
    world.cloud.fail(action, Unreachable("cut off"), after=True)
    try:
        await world.clean()
    except Unreachable:
        pass
    assert (await world.clean()).failed == []
    assert await world.is_clean()
