"""Cloud routes in a cell's life: made when it serves, kept, told about, and gone with it."""

from __future__ import annotations

from dataclasses import replace

from cellworld.scenarios import NET, OTHER_NET, ROUTE

from kip.cells.repository import CELLS_PATH
from kip.cloud.errors import NotAuthorized, Unreachable
from kip.cloud.routes import Route, RouteTable
from kip.model.names import CELL_FINALIZER
from kip.pods.annotations import Layer

CALLS = ("DescribeRouteTables", "CreateRoute", "DeleteRoute", "ModifyInstanceAttribute")


async def gate(world, name: str = "gate", ranges: str = NET) -> None:
    await world.pod(name, annotations={ROUTE: ranges})
    await world.until("serving", lambda: world.serving(name))


async def routed_gate(world) -> None:
    world.begin()
    await gate(world)
    await world.until("routed", lambda: world.routed({NET: "gate"}))
    await world.let_pass(2)


async def condition(world) -> dict:
    (cell,) = await world.cells()
    found = {c["type"]: c for c in cell["status"]["conditions"]}
    return found.get("Routed", {})


def calls(world) -> list[str]:
    return [call.action for call in world.cloud.calls if call.action in CALLS]


async def test_a_pod_without_the_annotation_costs_no_call(world):
    world.begin()
    await world.pod("web")
    await world.until("running", lambda: world.serving("web"))
    await world.let_pass(300)
    await world.delete("web")
    await world.until("gone", world.empty)
    assert calls(world) == []


async def test_a_route_is_made_recorded_and_told(world):
    await routed_gate(world)
    assert calls(world)[:3] == ["DescribeRouteTables", "ModifyInstanceAttribute", "CreateRoute"]
    (cell,) = await world.cells()
    (instance,) = world.live()
    assert cell["status"]["cloudRoutes"] == {
        "networkInterfaceID": instance.network_interface_id,
        "vpcID": world.cloud.vpc_id,
        "subnetID": instance.subnet_id,
        "cidrs": [NET],
    }
    assert (await condition(world))["status"] == "True"
    (event,) = await world.events("CloudRoutesMade")
    assert NET in event["message"]


async def test_a_namespaces_annotation_counts_for_its_pods(world):
    world.begin()
    world.process.defaults = (Layer("namespace shop", {ROUTE: NET}),)
    await world.pod("gate")
    await world.until("routed", lambda: world.routed({NET: "gate"}))


async def test_it_is_recorded_before_it_is_made(world):
    world.begin()
    recorded = []

    async def created(*arguments) -> None:
        (cell,) = await world.cells()
        recorded.append((cell["status"].get("cloudRoutes") or {}).get("cidrs"))

    world.cloud.routes.create = lambda *arguments: None
    world.process.routes._routing.create_route = created
    await gate(world)
    await world.until("made", lambda: bool(recorded))
    assert recorded[0] == [NET]


async def test_the_subnets_own_table_gets_the_route(world):
    subnets = frozenset(subnet.id for subnet in await world.cloud.subnets())
    world.cloud.routes.tables["rtb-own"] = RouteTable("rtb-own", world.cloud.vpc_id, False, subnets, ())
    await routed_gate(world)
    assert {table for table, _ in world.cloud.routes.to_interfaces()} == {"rtb-own"}


async def test_routes_that_are_as_wanted_cost_one_look_a_minute_and_no_write(world):
    await routed_gate(world)
    before, writes = len(calls(world)), len(world.api.writes())
    await world.let_pass(300)
    seen = len(calls(world))
    assert set(calls(world)[before:]) == {"DescribeRouteTables"}
    assert seen - before <= 5
    assert len(world.api.writes()) == writes
    await world.restart()
    await world.let_pass(5)
    assert calls(world)[seen:] == ["DescribeRouteTables"], "the next process looks, and finds all well"
    assert len(world.api.writes()) == writes


async def test_a_route_that_somebody_took_away_comes_back(world):
    await routed_gate(world)
    world.cloud.routes.delete("rtb-main", NET)
    await world.until("back", lambda: world.routed({NET: "gate"}), seconds=70)


async def test_what_others_made_stays_and_the_pod_runs_and_is_told(world):
    table = world.cloud.routes.tables["rtb-main"]
    world.cloud.routes.tables["rtb-main"] = replace(table, routes=(*table.routes, Route(NET, to="tgw-1")))
    world.begin()
    await gate(world)
    await world.until("told", lambda: world.events("CloudRouteTaken"))
    (event,) = await world.events("CloudRouteTaken")
    assert "tgw-1" in event["message"]
    assert (await condition(world))["reason"] == "CloudRouteTaken"
    world.cloud.routes.delete("rtb-main", NET)
    await world.until("routed when it is free", lambda: world.routed({NET: "gate"}), seconds=60)
    await world.until("told", lambda: world.events("CloudRoutesMade"))
    await world.delete("gate")
    await world.until("gone", world.empty)


async def test_a_missing_permission_is_told_and_keeps_no_pod_from_running(world):
    world.cloud.fail("CreateRoute", NotAuthorized("no", action="CreateRoute"), times=2)
    world.begin()
    await gate(world)
    await world.until("told", lambda: world.events("NotAuthorized"))
    assert "ec2:CreateRoute" in (await condition(world))["message"]
    await world.until("routed once it is allowed", lambda: world.routed({NET: "gate"}), seconds=60)
    await world.until("told", lambda: world.events("CloudRoutesMade"))
    assert len(await world.events("NotAuthorized")) == 1


async def test_when_the_tables_cannot_be_read_it_is_tried_again(world):
    world.cloud.fail("DescribeRouteTables", Unreachable("timed out"), times=2)
    world.begin()
    await gate(world)
    await world.until("routed", lambda: world.routed({NET: "gate"}), seconds=60)


async def test_a_cell_stays_until_its_routes_are_gone_and_its_machine_does_not(world):
    await routed_gate(world)
    no = NotAuthorized("no", action="DeleteRoute")
    world.cloud.fail("DeleteRoute", no, times=3)
    await world.delete("gate")
    await world.until("ended", lambda: not world.live())
    await world.let_pass(3)
    assert await world.get("gate") is None, "the pod does not wait for it"
    (cell,) = await world.cells()
    assert CELL_FINALIZER in cell["metadata"]["finalizers"]
    ended = next(c for c in cell["status"]["conditions"] if c["type"] == "Terminated")
    assert "ec2:DeleteRoute" in ended["message"]
    await world.until("gone", world.empty)


async def test_an_annotation_that_is_made_wrong_later_changes_nothing(world):
    await routed_gate(world)
    await world.annotate("gate", {ROUTE: "everywhere"})
    await world.until("told", lambda: world.events("InvalidAnnotation"))
    await world.let_pass(130)
    assert await world.routed({NET: "gate"})
    await world.annotate("gate", {ROUTE: f"{NET} {OTHER_NET}"})
    await world.until("routed", lambda: world.routed({NET: "gate", OTHER_NET: "gate"}))


async def test_cells_that_begin_and_end_together_share_the_calls(world):
    world.begin()
    ranges = {f"172.20.{number}.0/24": f"gate-{number}" for number in range(20)}
    for cidr, name in ranges.items():
        await world.pod(name, annotations={ROUTE: cidr})
    await world.until("routed", lambda: world.routed(ranges))
    assert calls(world).count("DescribeRouteTables") <= 5
    before = len(calls(world))
    for name in ranges.values():
        await world.delete(name)
    await world.until("gone", world.empty)
    assert calls(world)[before:].count("DescribeRouteTables") <= 5


async def test_a_cell_object_that_is_taken_away_by_force_leaves_no_route(world):
    await routed_gate(world)
    (cell,) = await world.cells()
    path = f"{CELLS_PATH}/{cell['metadata']['name']}"
    await world.api.patch(path, {"metadata": {"finalizers": []}})
    await world.api.delete(path)
    await world.until("gone", world.empty)


async def test_no_route_is_made_that_the_cluster_does_not_record(world):
    """Helm updates no CustomResourceDefinition: an older one drops the field, and nobody would ever find the route."""
    world.begin()
    save = world.process.cells.save
    world.process.cells.save = lambda cell: save(replace(cell, routes=None))
    await gate(world)
    await world.until("told", lambda: world.events("CellTypeTooOld"))
    await world.let_pass(150)
    assert calls(world) == []
    assert len(await world.events("CellTypeTooOld")) == 1
    await world.restart()
    await world.until("routed once it is there", lambda: world.routed({NET: "gate"}))
