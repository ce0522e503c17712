"""Stories of cells, each with its happy end: told without a crash, and with one at every single call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cellworld.world import PATIENCE_S, World

from kip.cells.repository import CELLS_PATH
from kip.cloud.errors import InsufficientCapacity, NotAuthorized, Throttled, Unreachable

Scenario = Callable[[World], Awaitable[None]]


async def come_and_go(world: World) -> None:
    """Two pods run, then are deleted."""
    await world.pod("web-0")
    await world.pod("web-1")
    await world.until("running", lambda: world.serving("web-0", "web-1"))
    await world.until("one instance each", world.one_instance_each)
    await world.delete("web-0")
    await world.delete("web-1")
    await world.until("gone", world.empty)
    assert await world.get("web-0") is None


async def a_job(world: World) -> None:
    """A pod runs to its end; its object stays, its logs are kept, its machine goes."""
    job = await world.pod("job")
    await world.until("done", lambda: _done(world, "job"))
    await world.until("gone", world.empty)
    assert await world.phase("job") == "Succeeded"
    assert job["metadata"]["uid"] in world.outside.logs_kept


async def _done(world: World, name: str) -> bool:
    return await world.phase(name) == "Succeeded"


async def the_answer_is_lost(world: World) -> None:
    """RunInstances takes effect, and its answer does not come."""
    world.cloud.fail("RunInstances", Unreachable("timed out"), after=True)
    await world.pod("web-0")
    await world.pod("web-1")
    await world.until("running", lambda: world.serving("web-0", "web-1"))
    await world.until("one instance each", world.one_instance_each)


async def capacity_elsewhere(world: World) -> None:
    """The first two offers are sold out."""
    world.cloud.fail("RunInstances", InsufficientCapacity("none left"), times=2)
    await world.pod("web")
    await world.until("running", lambda: world.serving("web"))
    await world.until("one instance each", world.one_instance_each)


async def a_quota_in_one_zone(world: World) -> None:
    """Two are refused, one is granted, the other one goes to the next zone."""
    world.cloud.quota["us-east-1a"] = 1
    await world.pod("web-0")
    await world.pod("web-1")
    await world.until("running", lambda: world.serving("web-0", "web-1"))
    await world.until("one instance each", world.one_instance_each)


async def too_many_at_once(world: World) -> None:
    """The call for both is throttled until it is taken back."""
    world.cloud.fail("RunInstances", Throttled("Request limit exceeded."), times=2)
    await world.pod("web-0")
    await world.pod("web-1")
    await world.until("running", lambda: world.serving("web-0", "web-1"))
    await world.until("one instance each", world.one_instance_each)


async def an_end_refused_at_first(world: World) -> None:
    """A person has protected the machine, and changes their mind."""
    await world.pod("job")
    await world.until("launched", lambda: bool(world.live()))
    world.cloud.protected.add(world.live()[0].id)
    await world.until("done", lambda: _done(world, "job"))
    await world.let_pass(5)
    world.cloud.protected.clear()
    await world.until("gone", world.empty)
    assert await world.phase("job") == "Succeeded"


async def not_allowed_at_first(world: World) -> None:
    """A person has to change a policy."""
    world.cloud.fail("RunInstances", NotAuthorized("no", action="RunInstances"))
    await world.pod("web")
    await world.until("running", lambda: world.serving("web"))
    await world.until("one instance each", world.one_instance_each)


async def the_machine_is_lost(world: World) -> None:
    """A running pod's machine goes away: the pod has failed, nothing is left."""
    await world.pod("web")
    await world.until("running", lambda: world.serving("web"))
    world.cloud.set_state(world.live()[0].id, "terminated", "Server.SpotInstanceTermination")
    await world.until("failed", lambda: _failed(world, "web"))
    await world.until("gone", world.empty)


async def the_machine_is_stopped(world: World) -> None:
    """As AWS does when it retires one: the pod has failed, and the machine is not kept."""
    await world.pod("web")
    await world.until("running", lambda: world.serving("web"))
    world.cloud.set_state(world.live()[0].id, "stopped", "Server.ScheduledStop: Stopped due to retirement")
    await world.until("failed", lambda: _failed(world, "web"))
    await world.until("gone", world.empty)


async def a_listing_that_is_incomplete(world: World) -> None:
    """One of two machines is in no listing any more: both pods run on."""
    await world.pod("web-0")
    await world.pod("web-1")
    await world.until("running", lambda: world.serving("web-0", "web-1"))
    await world.let_pass(PATIENCE_S / 2)
    world.cloud.unlisted.add(world.live()[0].id)
    await world.let_pass(12)
    assert await world.serving("web-0", "web-1"), await world.told()


async def _failed(world: World, name: str) -> bool:
    return await world.phase(name) == "Failed"


async def gpus_that_come_late(world: World) -> None:
    """The pod is not shown before they are there."""
    await world.pod("train", gpus=1)
    await world.until("connected", lambda: any(machine.api for machine in world.outside.live()))
    await world.let_pass(3)
    assert await world.phase("train") == "Pending"
    for machine in world.outside.live():
        machine.devices["nvidia.com/gpu"] = 4
    await world.until("running", lambda: world.serving("train"))
    await world.until("one instance each", world.one_instance_each)


async def a_machine_that_never_answers(world: World) -> None:
    """It is given up, and the next one is tried."""
    world.outside.reachable = False
    await world.pod("web")
    await world.until("launched", lambda: bool(world.outside.live()))
    world.outside.reachable = True
    await world.until("running", lambda: world.serving("web"))
    await world.until("one instance each", world.one_instance_each)


async def a_silent_kubelet(world: World) -> None:
    """It is given up, and the next one is tried."""
    world.outside.kubelets_ask = False
    await world.pod("web")
    await world.until("launched", lambda: bool(world.outside.live()))
    world.outside.kubelets_ask = True
    await world.until("running", lambda: world.serving("web"))
    await world.until("one instance each", world.one_instance_each)


async def a_cell_deleted_by_hand(world: World) -> None:
    """Its pod ran and has failed; the machine is gone."""
    await world.pod("web")
    await world.until("running", lambda: world.serving("web"))
    cell = (await world.cells())[0]
    await world.api.delete(f"{CELLS_PATH}/{cell['metadata']['name']}")
    await world.until("failed", lambda: _failed(world, "web"))
    await world.until("gone", world.empty)


async def deleted_while_it_boots(world: World) -> None:
    """The pod goes before it has begun, and its machine with it."""
    world.outside.reachable = False
    await world.pod("web")
    await world.until("launched", lambda: bool(world.live()))
    await world.delete("web")
    await world.until("gone", world.empty)
    assert await world.get("web") is None


async def replaced_under_its_name(world: World) -> None:
    """As a StatefulSet's: deleted with force, there again at once, another pod."""
    first = await world.pod("db-0")
    await world.until("running", lambda: world.serving("db-0"))
    await world.delete("db-0", gracePeriodSeconds=0)
    second = await world.pod("db-0")
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    await world.until("running", lambda: world.serving("db-0"))
    await world.until("one instance each", world.one_instance_each)
    pod = await world.get("db-0")
    assert pod is not None
    assert pod["metadata"]["uid"] == second["metadata"]["uid"]


ROUTE = "pod.elotl.co/cloud-route"
NET, OTHER_NET = "172.20.0.0/16", "172.21.0.0/16"


async def routes_come_and_go(world: World) -> None:
    """Two ranges lead to a pod's machine, then another one, then none."""
    await world.pod("gate", annotations={ROUTE: f"{NET} {OTHER_NET}"})
    await world.until("routed", lambda: world.routed({NET: "gate", OTHER_NET: "gate"}))
    await world.annotate("gate", {ROUTE: OTHER_NET})
    await world.until("one taken back", lambda: world.routed({OTHER_NET: "gate"}))
    await world.until("said", lambda: _recorded(world, OTHER_NET))
    await world.annotate("gate", {ROUTE: None})
    await world.until("taken back", lambda: world.routed({}))
    await world.until("said", lambda: _recorded(world))
    await world.annotate("gate", {ROUTE: NET})
    await world.until("routed again", lambda: world.routed({NET: "gate"}))
    await world.delete("gate")
    await world.until("gone", world.empty)


async def _recorded(world: World, *cidrs: str) -> bool:
    (cell,) = await world.cells()
    return list(((cell.get("status") or {}).get("cloudRoutes") or {}).get("cidrs", [])) == list(cidrs)


async def a_route_passes_on(world: World) -> None:
    """Two pods want the same range: one has it, and when its machine is lost the other one."""
    await world.pod("gate-0", annotations={ROUTE: NET})
    await world.until("routed", lambda: world.routed({NET: "gate-0"}))
    await world.pod("gate-1", annotations={ROUTE: NET})
    await world.until("running", lambda: world.serving("gate-0", "gate-1"))
    await world.until("said", lambda: world.events("CloudRouteTaken"))
    assert await world.routed({NET: "gate-0"})
    world.cloud.set_state(await world.instance_of("gate-0"), "terminated", "Server.SpotInstanceTermination")
    await world.until("passed on", lambda: world.routed({NET: "gate-1"}))
    await world.until("failed", lambda: _failed(world, "gate-0"))
    await world.delete("gate-1")
    await world.until("gone", world.empty)


async def routes_whose_answers_are_lost(world: World) -> None:
    """Both calls take effect, and their answers do not come."""
    world.cloud.fail("CreateRoute", Unreachable("timed out"), after=True)
    await world.pod("job-gate", annotations={ROUTE: NET})
    world.cloud.fail("DeleteRoute", Unreachable("timed out"), after=True)
    await world.until("done", lambda: _done(world, "job-gate"))
    await world.until("gone", world.empty)


SCENARIOS: tuple[Scenario, ...] = (
    come_and_go,
    a_job,
    the_answer_is_lost,
    capacity_elsewhere,
    a_quota_in_one_zone,
    too_many_at_once,
    an_end_refused_at_first,
    not_allowed_at_first,
    the_machine_is_lost,
    the_machine_is_stopped,
    a_listing_that_is_incomplete,
    gpus_that_come_late,
    a_machine_that_never_answers,
    a_silent_kubelet,
    a_cell_deleted_by_hand,
    deleted_while_it_boots,
    replaced_under_its_name,
    routes_come_and_go,
    a_route_passes_on,
    routes_whose_answers_are_lost,
)
