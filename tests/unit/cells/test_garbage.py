"""Instances without a Cell, Cells without an instance; and what must never be mistaken for either."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.doubles.samples import intent, launched

from kip.cells.fleet import Fleet
from kip.cells.garbage import SWEEP_S, Sweeper
from kip.cells.repository import CELLS_PATH, Cells
from kip.cells.routekeeper import RouteKeeper
from kip.cloud.errors import NotAuthorized, Unreachable
from kip.cloud.fake import FakeCloud
from kip.kube.errors import Unavailable
from kip.kube.fake import FakeApi
from kip.model import names
from kip.model.cell import LAUNCHED, new_cell_object
from kip.model.clock import ManualClock
from kip.model.giveway import GiveWay, at_once

NODE = "kip-provider-0"
TAGS = {names.TAG_CLUSTER: "blue", names.TAG_NODE: NODE}


class World:
    def __init__(self, give_way: GiveWay = at_once) -> None:
        self.clock = ManualClock()
        self.api = FakeApi(clock=self.clock)
        self.cloud = FakeCloud(clock=self.clock)
        self.cells = Cells(self.api, NODE)
        self.fleet = Fleet(self.cloud, self.clock, tags=TAGS)
        self.marked: list[str] = []
        self.routes = RouteKeeper(self.cloud, self.cloud, self.cells, self.clock, mark=self.marked.append)
        self.sweeper = Sweeper(
            self.fleet,
            self.cells,
            self.clock,
            mark=self.marked.append,
            abandon=self.routes.abandon,
            give_way=give_way,
        )

    async def instance(self, token: str, tags: dict | None = None):
        return await launched(self.cloud, token, tags=TAGS if tags is None else tags)

    async def cell(self, uid: str, **status):
        body = {"metadata": {"name": uid, "namespace": "d", "uid": uid}, "spec": {"nodeName": NODE}}
        cell = self.cells.put(await self.api.create(CELLS_PATH, new_cell_object(body)))
        return await self.cells.save(replace(cell, **status)) if status else cell

    def live(self) -> list[str]:
        return [i.client_token for i in self.cloud.all() if not i.gone]


@pytest.fixture
def world():
    return World()


async def test_an_instance_that_no_cell_claims_is_ended(world):
    await world.cell("a", instance_id=(await world.instance("claimed")).id)
    await world.instance("orphan")
    ended = await world.sweeper.sweep()
    assert len(ended) == 1
    assert world.live() == ["claimed"]


async def test_an_orphans_routes_go_before_it(world):
    """Later nothing would say that they were made by Kip."""
    orphan, other = await world.instance("orphan"), await world.instance("claimed")
    await world.cell("a", instance_id=other.id)
    await world.cloud.create_route("rtb-main", "172.20.0.0/16", orphan.network_interface_id)
    await world.cloud.create_route("rtb-main", "172.21.0.0/16", other.network_interface_id)
    assert await world.sweeper.sweep() == [orphan.id]
    assert world.cloud.routes.to_interfaces() == {("rtb-main", "172.21.0.0/16"): other.network_interface_id}
    actions = [call.action for call in world.cloud.calls]
    assert actions.index("DeleteRoute") < actions.index("TerminateInstances")


async def test_an_orphan_is_ended_even_if_its_routes_cannot_be_looked_for(world):
    await world.instance("orphan")
    world.cloud.fail("DescribeRouteTables", NotAuthorized("no", action="DescribeRouteTables"))
    assert len(await world.sweeper.sweep()) == 1
    assert world.live() == []


async def test_a_launch_under_way_is_nobodys_orphan(world):
    """Its answer has not come, or not been written, yet."""
    await world.cell("a", intent=intent("under-way"))
    await world.instance("under-way")
    assert await world.sweeper.sweep() == []
    assert world.live() == ["under-way"]


async def test_what_a_batch_launched_too_much_goes_once_all_its_cells_have_theirs(world):
    one = await world.instance("batch")
    world.cloud._instances["i-extra"] = replace(one, id="i-extra", launch_index=1)
    cell = await world.cell("a", intent=intent("batch"))
    assert await world.sweeper.sweep() == []
    await world.cells.save(replace(cell, instance_id=one.id))
    assert await world.sweeper.sweep() == ["i-extra"]


async def test_other_installations_instances_are_not_looked_at(world):
    await world.instance("theirs", {names.TAG_CLUSTER: "green", names.TAG_NODE: NODE})
    await world.instance("other-node", {names.TAG_CLUSTER: "blue", names.TAG_NODE: "kip-provider-1"})
    await world.instance("a-persons", {})
    assert await world.sweeper.sweep() == []
    assert len(world.live()) == 3


async def test_cells_are_read_after_the_instances_and_from_the_api_server(world):
    """Read before, a launch in between would be an orphan; from memory, so would another process's."""
    order = []
    sweep, refresh = world.fleet.sweep, world.cells.refresh

    async def swept():
        order.append("instances")
        return await sweep()

    async def refreshed():
        order.append("cells")
        return await refresh()

    world.fleet.sweep, world.cells.refresh = swept, refreshed
    await world.sweeper.sweep()
    assert order == ["instances", "cells"]


async def test_nothing_is_ended_when_the_cells_cannot_be_read(world):
    await world.instance("orphan?")
    world.api.away = True
    with pytest.raises(Unavailable):
        await world.sweeper.sweep()
    assert world.live() == ["orphan?"]


async def test_a_lost_instance_wakes_its_cell(world):
    instance = await world.instance("t")
    cell = await world.cell("a", instance_id=instance.id)
    await world.cell("b", instance_id=(await world.instance("u")).id)
    world.cloud.set_state(instance.id, "terminated", "Server.SpotInstanceTermination")
    await world.sweeper.sweep()
    assert world.marked == ["a"]
    assert world.fleet.why_gone(cell) == "Server.SpotInstanceTermination"


async def test_a_cell_that_is_being_deleted_is_woken_at_every_sweep(world):
    cell = await world.cell("a")
    await world.api.delete(f"{CELLS_PATH}/{cell.name}")
    await world.sweeper.sweep()
    await world.sweeper.sweep()
    assert world.marked == ["a", "a"]


async def test_an_instance_that_does_not_show_yet_is_not_gone(world):
    cell = await world.cell("a", instance_id="i-new", intent=intent("t"))
    await world.sweeper.sweep()
    assert world.fleet.why_gone(cell) is None
    await world.clock.advance(130)
    await world.sweeper.sweep()
    assert world.fleet.why_gone(cell) == "EC2 no longer knows it"


async def test_before_the_first_sweep_nothing_is_gone(world):
    cell = await world.cell("a", instance_id="i-old", intent=intent("t"))
    await world.clock.advance(3600)
    assert world.fleet.why_gone(cell) is None


async def test_an_instance_that_lost_its_tags_is_asked_for_by_its_id(world):
    instance = await world.instance("t")
    cell = await world.cell("a", instance_id=instance.id)
    world.cloud._instances[instance.id] = replace(instance, tags={})
    await world.clock.advance(600)
    await world.sweeper.sweep()
    assert world.fleet.why_gone(cell) is None
    assert world.marked == []


async def test_an_unclear_answer_about_one_instance_ends_no_pod(world):
    cell = await world.cell("a", instance_id="i-unseen")
    await world.clock.advance(600)
    listed = await world.fleet.sweep()
    world.cloud.fail("DescribeInstances", Unreachable("timed out"))
    with pytest.raises(Unreachable):
        await world.fleet.confirm(listed, [cell])
    assert world.fleet.why_gone(cell) is None


@pytest.mark.parametrize("missing", ["listing", "cells", "question"])
async def test_a_later_listing_without_a_healthy_cells_instance_ends_no_pod(world, missing):
    """Whatever fails between the listing and the question about just this instance."""
    instance = await world.instance("t")
    cell = await world.cell("a", instance_id=instance.id)
    await world.clock.advance(600)
    await world.sweeper.sweep()
    world.cloud.unlisted.add(instance.id)
    listed = await world.fleet.sweep()
    assert listed == []
    assert world.fleet.why_gone(cell) is None
    assert not world.fleet.ended(cell)
    if missing == "cells":
        world.api.away = True
    elif missing == "question":
        describe = world.cloud.describe_ids

        async def refused(ids):
            raise Unreachable("timed out")

        world.cloud.describe_ids = refused
    if missing != "listing":
        with pytest.raises((Unreachable, Unavailable)):
            await world.sweeper.sweep()
    assert world.fleet.why_gone(cell) is None
    assert not world.fleet.ended(cell)
    world.api.away = False
    if missing == "question":
        world.cloud.describe_ids = describe
    await world.sweeper.sweep()
    assert world.fleet.why_gone(cell) is None
    assert world.marked == []


async def test_what_is_heard_of_an_instance_while_a_sweep_is_under_way_is_newer_than_its_listing(world):
    listed = await world.fleet.sweep()
    instance = await world.instance("t")
    world.fleet.note(instance)
    cell = await world.cell("a", instance_id=instance.id)
    ended = await world.instance("u")
    gone = await world.cell("b", instance_id=ended.id)
    await world.cloud.terminate([ended.id])
    await world.fleet.look_at(ended.id)
    await world.fleet.confirm([*listed, ended], [cell, gone])
    assert world.fleet.why_gone(cell) is None
    assert world.fleet.ended(gone)


async def test_the_grace_of_a_launch_begins_when_ec2_told_of_it(world):
    """Its call was throttled for minutes; the instance does not show for some seconds after that."""
    cell = await world.cell("a", instance_id="i-new", intent=intent("t"))
    await world.clock.advance(600)
    cell = await world.cells.save(
        cell.set(LAUNCHED, "True", "Launched", "EC2 instance i-new", now=world.clock.now())
    )
    await world.clock.advance(5)
    await world.sweeper.sweep()
    assert world.fleet.why_gone(cell) is None
    await world.clock.advance(120)
    await world.sweeper.sweep()
    assert world.fleet.why_gone(cell) == "EC2 no longer knows it"
    assert world.fleet.ended(cell)


@pytest.mark.parametrize("state", ["stopping", "stopped"])
async def test_a_stopped_machine_is_lost_to_its_cell_but_has_not_ended(world, state):
    instance = await world.instance("t")
    cell = await world.cell("a", instance_id=instance.id)
    world.cloud.set_state(instance.id, state, "Server.ScheduledStop: Stopped due to scheduled retirement")
    await world.sweeper.sweep()
    assert world.marked == ["a"]
    assert world.fleet.why_gone(cell) == (
        f"it is {state}: Server.ScheduledStop: Stopped due to scheduled retirement"
    )
    assert not world.fleet.ended(cell), "it must still be terminated"


async def test_terminated_instances_are_not_listed_but_known(world):
    instance = await world.instance("t")
    cell = await world.cell("a", instance_id=instance.id)
    await world.cloud.terminate([instance.id])
    assert await world.fleet.sweep() == []
    await world.sweeper.sweep()
    assert world.fleet.why_gone(cell) == "Client.UserInitiatedShutdown: User initiated shutdown"
    assert world.fleet.ended(cell)


async def test_an_orphan_that_cannot_be_ended_keeps_back_neither_news_nor_other_orphans(world):
    lost = await world.instance("lost")
    await world.cell("a", instance_id=lost.id)
    stubborn, other = await world.instance("stubborn"), await world.instance("other")
    world.cloud.protected.add(stubborn.id)
    world.cloud.set_state(lost.id, "terminated", "Server.SpotInstanceTermination")
    assert await world.sweeper.sweep() == [other.id]
    assert world.marked == ["a"]
    assert world.live() == ["stubborn"]


async def test_waiting_for_the_end_is_bounded(world):
    instance = await world.instance("t")
    task = asyncio.create_task(world.fleet.wait_gone(instance.id, deadline_s=2))
    await world.clock.advance(3)
    assert task.result() is False
    await world.fleet.terminate([instance.id])
    assert await world.fleet.wait_gone(instance.id, deadline_s=2)
    assert await world.fleet.wait_gone("i-unknown", deadline_s=2)


async def test_while_a_cell_cannot_be_read_no_instance_is_taken_for_an_orphan(world):
    instance = await world.instance("t1")
    cell = await world.cell("u-1", instance_id=instance.id)
    broken = {"status": {"conditions": [{"type": "Launched"}]}}
    await world.api.patch(f"{CELLS_PATH}/{cell.name}/status", broken)
    stray = await world.instance("t2")
    assert await world.sweeper.sweep() == []
    assert {i.id for i in world.cloud.all() if not i.gone} == {instance.id, stray.id}
    mended = {"status": {"conditions": []}}
    await world.api.patch(f"{CELLS_PATH}/{cell.name}/status", mended)
    assert await world.sweeper.sweep() == [stray.id]


async def test_a_sweep_waits_until_there_is_time():
    busy = asyncio.Event()

    async def give_way() -> None:
        busy.set()
        await world.clock.sleep(7)

    world = World(give_way)
    running = asyncio.create_task(world.sweeper.run())
    await world.clock.advance(SWEEP_S)
    await asyncio.wait_for(busy.wait(), 5)
    await world.instance("orphan")
    await world.clock.advance(6)
    assert world.live() == ["orphan"]
    await world.clock.advance(2)
    assert world.live() == []
    running.cancel()
