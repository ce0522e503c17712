"""Grouping, intents before calls, and the same instances for a repeated call; against the behaving cloud fake."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import pytest

from kip.cells.launcher import Found, Launcher, LaunchFailed
from kip.cells.spec import LaunchSpec
from kip.cloud.errors import (
    InsufficientCapacity,
    InvalidRequest,
    QuotaExceeded,
    Throttled,
    TokenConflict,
    Unreachable,
)
from kip.cloud.fake import FakeCloud
from kip.kube.errors import NotFound
from kip.model import names
from kip.model.cell import Cell, new_cell_object
from kip.model.clock import ManualClock, settle

TAGS = {names.TAG_CLUSTER: "c", names.TAG_NODE: "kip-provider-0"}


def a_cell(uid: str) -> Cell:
    obj = new_cell_object(
        {"metadata": {"name": uid, "namespace": "d", "uid": uid}, "spec": {"nodeName": "n"}}
    )
    obj["metadata"] |= {
        "uid": f"cell-{uid}",
        "resourceVersion": "1",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return Cell.from_object(obj)


class World:
    """A cloud, a place where Cells are written, and a launcher between them."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.cloud = FakeCloud(clock=self.clock)
        self.written: dict[str, Cell] = {}
        self.refuse: set[str] = set()
        self.launcher = self.restart()

    def restart(self) -> Launcher:
        """A new process: nothing in memory."""
        self.launcher = Launcher(self.cloud, self.clock, save=self.save, holders=self.holders, tags=TAGS)
        return self.launcher

    def holders(self, token: str) -> set[str]:
        return {c.uid for c in self.written.values() if c.intent and c.intent.client_token == token}

    async def spec(self, **changes: object) -> LaunchSpec:
        subnet = (await self.cloud.subnets())[0]
        group = await self.cloud.ensure_cell_security_group(cluster="c", vpc_id=subnet.vpc_id)
        base = LaunchSpec(
            instance_type="t3.small",
            market="on-demand",
            subnet_id=subnet.id,
            zone=subnet.zone,
            image_id=self.cloud.images[0].image.id,
            root_device_name="/dev/xvda",
            security_group_ids=(group,),
            user_data=b"#cloud-config\n{}",
        )
        return replace(base, **changes)

    async def save(self, cell: Cell) -> Cell:
        await asyncio.sleep(0)
        if cell.name in self.refuse:
            raise NotFound(404, "NotFound", f"{cell.name} is gone")
        assert cell.intent is not None
        assert not any(i.client_token == cell.intent.client_token for i in self.cloud.all()), (
            "written too late"
        )
        self.written[cell.name] = cell
        return replace(cell, resource_version=str(int(cell.resource_version) + 1))

    async def launch(self, *launches: tuple[Cell, LaunchSpec]):
        tasks = [asyncio.create_task(self.launcher.launch(c, s)) for c, s in launches]
        await self.clock.advance(2)
        return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def world() -> World:
    return World()


async def test_equal_launches_share_one_call_and_each_cell_gets_its_own_instance(world):
    spec = await world.spec()
    answers = await world.launch(*((a_cell(f"u{i}"), spec) for i in range(20)))
    assert len(world.cloud.called("RunInstances")) == 1
    assert len({instance.id for _, instance in answers}) == 20
    for cell, instance in answers:
        assert cell.intent.index == instance.launch_index
        assert cell.intent.client_token == instance.client_token
        assert cell.intent.count == 20


async def test_a_batch_is_tagged_with_what_its_cells_have_in_common(world):
    spec = await world.spec()
    tags = [{"app": "web", "Name": f"web-{i}"} for i in range(2)]
    tasks = [asyncio.create_task(world.launcher.launch(a_cell(f"u{i}"), spec, tags[i])) for i in range(2)]
    await world.clock.advance(2)
    for cell, instance in await asyncio.gather(*tasks):
        launch = {names.TAG_LAUNCH: cell.intent.client_token}
        assert instance.tags == {**TAGS, **launch, "Name": "Kip cell", "app": "web"}
        assert cell.intent.tags == {"app": "web"}


async def test_a_single_cell_has_all_its_tags_at_once_but_not_over_kips_own(world):
    spec = await world.spec()
    tags = {"Name": "web-0", names.TAG_CLUSTER: "somebody else's"}
    task = asyncio.create_task(world.launcher.launch(a_cell("u"), spec, tags))
    await world.clock.advance(2)
    _, instance = await task
    assert (instance.tags["Name"], instance.tags[names.TAG_CLUSTER]) == ("web-0", "c")


async def test_a_repeated_call_has_the_tags_of_its_intent_whatever_the_labels_are_by_now(world):
    spec = await world.spec()
    world.cloud.fail("RunInstances", Unreachable("lost"), after=True)
    task = asyncio.create_task(world.launcher.launch(a_cell("u"), spec, {"app": "web", "a": "1"}))
    await world.clock.advance(2)
    with pytest.raises(LaunchFailed):
        await task
    written = world.written["kip-u"]
    read = replace(written, intent=type(written.intent).from_dict(written.intent.to_dict()))
    found = await world.restart().resume(read, spec)
    assert found.sure
    assert found.instance.tags["app"] == "web"
    assert len(world.cloud.all()) == 1


async def test_what_differs_in_anything_is_launched_apart(world):
    one, other = await world.spec(), await world.spec(instance_type="m5.large")
    answers = await world.launch((a_cell("a"), one), (a_cell("b"), other), (a_cell("c"), one))
    assert len(world.cloud.called("RunInstances")) == 2
    assert [i.instance_type for _, i in answers] == ["t3.small", "m5.large", "t3.small"]


async def test_a_steady_trickle_does_not_hold_the_first_one_for_ever(world):
    spec = await world.spec()
    first = asyncio.create_task(world.launcher.launch(a_cell("first"), spec))
    tasks = []
    for i in range(30):
        tasks.append(asyncio.create_task(world.launcher.launch(a_cell(f"u{i}"), spec)))
        await world.clock.advance(0.03)
    assert first.done()
    await world.clock.advance(2)
    assert all(t.done() for t in tasks)


async def test_while_ec2_would_throttle_cells_go_on_to_join_the_call(world):
    spec = await world.spec()
    world.cloud.launch_wait = 2.0
    first = asyncio.create_task(world.launcher.launch(a_cell("first"), spec))
    await world.clock.advance(1.5)
    late = asyncio.create_task(world.launcher.launch(a_cell("late"), spec))
    await world.clock.advance(0.4)
    assert not world.cloud.called("RunInstances")
    world.cloud.launch_wait = 0.0
    await world.clock.advance(0.5)
    assert first.done()
    assert late.done()
    assert len(world.cloud.called("RunInstances")) == 1


async def test_a_turn_that_never_comes_is_not_waited_for_for_ever(world):
    """Others, with launches of another kind, may be faster each time."""
    spec = await world.spec()
    world.cloud.launch_wait = 0.5
    task = asyncio.create_task(world.launcher.launch(a_cell("a"), spec))
    await world.clock.advance(4.5)
    assert not task.done()
    await world.clock.advance(1.0)
    assert task.done()


async def test_launches_that_are_being_prepared_come_first_and_late_cells_share_a_call(world):
    """Intents take long to write when there are many: a bucket that is full now is none when they are written."""
    spec, written = await world.spec(), asyncio.Event()
    save = world.save

    async def slow(cell: Cell) -> Cell:
        await written.wait()
        return await save(cell)

    world.launcher._save = slow
    tasks = []
    for number in range(20):
        tasks.append(asyncio.create_task(world.launcher.launch(a_cell(f"u{number}"), spec)))
        await world.clock.advance(0.4)
    written.set()
    await world.clock.advance(2)
    assert all(task.done() for task in tasks)
    # Five calls at once are what EC2 admits; no group waits longer than five seconds.
    assert [call.subject.count for call in world.cloud.called("RunInstances")] == [1, 1, 1, 1, 1, 13, 2]


async def test_the_instances_carry_the_tags_by_which_they_are_found_again(world):
    [(cell, instance)] = await world.launch((a_cell("a"), await world.spec()))
    assert instance.tags.items() >= {**TAGS, names.TAG_LAUNCH: cell.intent.client_token}.items()


async def test_a_cell_that_cannot_be_written_is_left_out_and_nothing_is_launched_for_it(world):
    world.refuse.add("kip-b")
    spec = await world.spec()
    a, b, c = await world.launch((a_cell("a"), spec), (a_cell("b"), spec), (a_cell("c"), spec))
    assert isinstance(b, LaunchFailed)
    assert isinstance(b.error, NotFound)
    assert len(world.cloud.all()) == 2
    assert {a[1].launch_index, c[1].launch_index} == {0, 1}


async def test_partial_capacity_serves_some_and_tells_the_others_that_there_was_none(world):
    spec = await world.spec()
    world.cloud.capacity[("t3.small", spec.zone, "on-demand")] = 2
    answers = await world.launch(*((a_cell(f"u{i}"), spec) for i in range(5)))
    assert [instance is not None for _, instance in answers] == [True, True, False, False, False]


async def test_an_error_reaches_every_cell_of_the_group_with_its_written_intent(world):
    world.cloud.fail("RunInstances", InsufficientCapacity("none"))
    spec = await world.spec()
    answers = await world.launch((a_cell("a"), spec), (a_cell("b"), spec))
    for failed in answers:
        assert isinstance(failed, LaunchFailed)
        assert isinstance(failed.error, InsufficientCapacity)
        assert failed.cell.intent is not None


@pytest.mark.parametrize("after", [False, True], ids=["before the effect", "after the effect"])
async def test_a_lost_answer_is_asked_for_again_by_another_process_without_a_second_instance(world, after):
    spec = await world.spec()
    world.cloud.fail("RunInstances", Unreachable("timed out"), after=after)
    answers = await world.launch(*((a_cell(f"u{i}"), spec) for i in range(3)))
    assert all(isinstance(a, LaunchFailed) and isinstance(a.error, Unreachable) for a in answers)
    launcher = world.restart()
    found = await asyncio.gather(*(launcher.resume(c, spec) for c in world.written.values()))
    instances = [f.instance for f in found]
    assert all(f.sure for f in found)
    assert len({i.id for i in instances}) == 3
    assert len(world.cloud.all()) == 3
    assert [i.launch_index for i in instances] == [c.intent.index for c in world.written.values()]


async def test_cells_that_resume_the_same_launch_share_one_call(world):
    spec = await world.spec()
    world.cloud.fail("RunInstances", Unreachable("timed out"), after=True)
    await world.launch(*((a_cell(f"u{i}"), spec) for i in range(5)))
    launcher = world.restart()
    await asyncio.gather(*(launcher.resume(c, spec) for c in world.written.values()))
    assert len(world.cloud.called("RunInstances")) == 2


async def test_with_a_changed_configuration_the_launched_instances_are_found_by_their_tag(world):
    spec = await world.spec()
    world.cloud.fail("RunInstances", Unreachable("timed out"), after=True)
    await world.launch((a_cell("a"), spec), (a_cell("b"), spec))
    launcher = world.restart()
    changed = replace(spec, user_data=b"#cloud-config\n{'new': true}")
    instances = [(await launcher.resume(c, changed)).instance for c in world.written.values()]
    assert {i.id for i in instances} == {i.id for i in world.cloud.all()}
    assert len(world.cloud.called("RunInstances")) == 1


async def test_an_instance_that_ended_meanwhile_is_not_adopted(world):
    spec = await world.spec()
    world.cloud.fail("RunInstances", Unreachable("timed out"), after=True)
    await world.launch((a_cell("a"), spec))
    world.cloud.set_state(world.cloud.all()[0].id, "terminated")
    assert (await world.restart().resume(world.written["kip-a"], spec)).instance is None


async def test_another_launch_of_the_same_cell_has_another_token(world):
    spec = await world.spec()
    [(cell, _)] = await world.launch((a_cell("a"), spec))
    again = replace(cell, intent=None)
    [(second, instance)] = await world.launch((again, spec))
    assert second.intent.client_token != cell.intent.client_token
    assert instance is not None
    assert len(world.cloud.all()) == 2


async def test_a_cell_that_stops_waiting_does_not_disturb_the_others(world):
    spec = await world.spec()
    tasks = [asyncio.create_task(world.launcher.launch(a_cell(f"u{i}"), spec)) for i in range(3)]
    await settle()
    tasks[0].cancel()
    await world.clock.advance(2)
    assert [t.cancelled() for t in tasks] == [True, False, False]
    assert tasks[1].result()[1] is not None


async def test_a_launch_whose_intents_were_not_all_written_is_never_made(world):
    """The process died between two of them: asking for three machines now would be two too many."""
    spec = await world.spec()
    world.cloud.fail("RunInstances", Unreachable("timed out"))
    await world.launch(*((a_cell(f"u{i}"), spec) for i in range(3)))
    del world.written["kip-u1"], world.written["kip-u2"]
    launcher, survivor = world.restart(), world.written["kip-u0"]
    assert not launcher.can_repeat(survivor, spec)
    assert await launcher.resume(survivor, spec) == Found(None, sure=False)
    assert world.cloud.all() == []


async def test_a_launch_that_was_made_is_found_though_one_of_its_cells_has_gone(world):
    spec = await world.spec()
    world.cloud.fail("RunInstances", Unreachable("timed out"), after=True)
    await world.launch(*((a_cell(f"u{i}"), spec) for i in range(3)))
    del world.written["kip-u1"]
    launcher = world.restart()
    instance = (await launcher.resume(world.written["kip-u2"], spec)).instance
    assert instance is not None
    assert instance.launch_index == 2
    assert len(world.cloud.called("RunInstances")) == 1


async def test_a_process_that_stops_leaves_intents_to_the_next_one(world):
    """What becomes of a call under way is not known, so it must not count as refused."""
    spec = await world.spec()

    async def no_answer(request):
        await asyncio.Event().wait()

    world.cloud.launch = no_answer
    task = asyncio.create_task(world.launcher.launch(a_cell("a"), spec))
    await world.clock.advance(2)
    await world.launcher.close()
    with pytest.raises(LaunchFailed) as failed:
        await task
    assert isinstance(failed.value.error, Unreachable)


async def test_a_cell_that_went_away_while_its_intent_was_written_is_no_failure_of_the_others(world):
    world.refuse.add("kip-b")
    spec = await world.spec()
    tasks = [asyncio.create_task(world.launcher.launch(a_cell(uid), spec)) for uid in "ab"]
    await settle()
    tasks[1].cancel()
    await world.clock.advance(2)
    _, instance = await tasks[0]
    assert instance is not None


# Batches that EC2 refuses as a whole.


def counts(world) -> list[int]:
    return [call.subject.count for call in world.cloud.called("RunInstances")]


async def test_a_large_group_is_asked_for_in_batches_side_by_side(world):
    spec = await world.spec()
    launch, under_way, most = world.cloud.launch, 0, 0

    async def slow(request):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return await launch(request)

    world.cloud.launch = slow
    answers = await world.launch(*((a_cell(f"u{i}"), spec) for i in range(250)))
    assert counts(world) == [100, 100, 50]
    assert len({instance.id for _, instance in answers}) == 250
    assert most == 3


async def test_after_a_quota_has_refused_a_batch_the_next_ones_are_smaller_and_grow_again(world):
    spec = await world.spec()
    world.cloud.quota[spec.zone] = 40
    answers = await world.launch(*((a_cell(f"u{i}"), spec) for i in range(100)))
    while refused := [
        a for a in answers if isinstance(a, LaunchFailed) and getattr(a.cell.intent, "count", 0) > 1
    ]:
        answers = await world.launch(*((replace(f.cell, intent=None), spec) for f in refused))
    assert counts(world)[:4] == [100, 50, 25, 25], "one at a time"
    assert len(world.cloud.all()) == 40
    assert len(counts(world)) < 20
    del world.cloud.quota[spec.zone]
    before = len(counts(world))
    more = await world.launch(*((a_cell(f"m{i}"), spec) for i in range(100)))
    grown = counts(world)[before:]
    assert all(later == 2 * earlier for earlier, later in itertools.pairwise(grown[:-1]))
    assert len({instance.id for _, instance in more}) == 100


async def test_where_not_even_one_is_granted_the_others_of_the_group_are_told_without_a_call(world):
    spec = await world.spec()
    world.cloud.quota[spec.zone] = 0
    waiting = [a_cell(f"u{i}") for i in range(100)]
    for _ in range(8):
        failed = await world.launch(*((c, spec) for c in waiting))
        assert all(isinstance(f.error, QuotaExceeded) for f in failed)
        waiting = [replace(f.cell, intent=None) for f in failed]
    assert counts(world)[:7] == [100, 50, 25, 12, 6, 3, 1]
    assert len(counts(world)) <= 20
    assert counts(world)[-1] == 1


async def test_what_is_being_found_out_for_spot_does_not_hold_up_on_demand(world):
    on_demand = await world.spec()
    spot = replace(on_demand, market="spot")
    launch = world.cloud.launch

    async def spot_hangs(request):
        if request.market == "spot" and request.count == 2:
            raise QuotaExceeded("too many", code="MaxSpotInstanceCountExceeded")
        if request.market == "spot":
            await asyncio.Event().wait()
        return await launch(request)

    world.cloud.launch = spot_hangs
    await world.launch((a_cell("a"), spot), (a_cell("b"), spot))
    hanging = asyncio.create_task(world.launcher.launch(a_cell("c"), spot))
    [(_, instance)] = await world.launch((a_cell("d"), on_demand))
    assert instance is not None
    assert not hanging.done()
    await world.launcher.close()
    with pytest.raises(LaunchFailed):
        await hanging


async def test_a_launch_throttled_twice_in_a_row_is_never_made_again_and_the_next_one_is_smaller(world):
    spec = await world.spec()
    world.cloud.fail("RunInstances", Throttled("Request limit exceeded."), times=2)
    failed = await world.launch(*((a_cell(f"u{i}"), spec) for i in range(10)))
    cells = [f.cell for f in failed]
    assert world.launcher.throttled(cells[0]) == 1
    again = await asyncio.gather(*(world.launcher.resume(c, spec) for c in cells[:9]), return_exceptions=True)
    assert all(isinstance(f, LaunchFailed) and isinstance(f.error, Throttled) for f in again)
    assert world.launcher.throttled(cells[0]) == 2
    with pytest.raises(LaunchFailed) as late:
        await world.launcher.resume(cells[9], spec)
    assert isinstance(late.value.error, Throttled), "the others have taken it back"
    assert counts(world) == [10, 10]
    answers = await world.launch(*((replace(c, intent=None), spec) for c in cells))
    assert counts(world)[2:] == [5, 5]
    assert len({instance.id for _, instance in answers}) == 10


async def test_a_throttled_launch_of_one_is_repeated_with_its_token(world):
    spec = await world.spec()
    world.cloud.fail("RunInstances", Throttled("Request limit exceeded."), times=5)
    [failed] = await world.launch((a_cell("a"), spec))
    for _ in range(4):
        with pytest.raises(LaunchFailed):
            await world.launcher.resume(failed.cell, spec)
    found = await world.launcher.resume(failed.cell, spec)
    assert found.sure
    assert found.instance.client_token == failed.cell.intent.client_token


async def test_where_ec2_forbids_the_combination_for_several_they_are_asked_for_one_by_one(world):
    spec = await world.spec()
    launch = world.cloud.launch

    async def only_one(request):
        if request.count > 1:
            raise InvalidRequest("secondary addresses", code="InvalidParameterCombination")
        return await launch(request)

    world.cloud.launch = only_one
    failed = await world.launch(*((a_cell(f"u{i}"), spec) for i in range(3)))
    assert {f.cell.intent.count for f in failed} == {3}
    answers = await world.launch(*((replace(f.cell, intent=None), spec) for f in failed))
    assert counts(world) == [1, 1, 1]
    assert len({instance.id for _, instance in answers}) == 3
    await world.launch(*((a_cell(f"v{i}"), spec) for i in range(3)))
    assert counts(world) == [1] * 6, "for the life of this process"


async def test_other_tags_are_other_parameters(world):
    """EC2 refuses a token that comes back with another Name; it must not be sent."""
    spec = await world.spec()
    world.cloud.fail("RunInstances", Unreachable("timed out"), after=True)
    await world.launch((a_cell("a"), spec))
    [cell] = world.written.values()
    renamed = Launcher(
        world.cloud, world.clock, save=world.save, holders=world.holders, tags=TAGS, called="another name"
    )
    assert not renamed.can_repeat(cell, spec)
    found = await renamed.resume(cell, spec)
    assert found.instance is not None
    assert len(counts(world)) == 1


@pytest.mark.parametrize(
    ("code", "sure"), [("IdempotentParameterMismatch", False), ("IdempotentInstanceTerminated", True)]
)
async def test_a_token_that_was_used_with_other_parameters_has_instances_that_may_not_show_yet(
    world, code, sure
):
    spec = await world.spec()
    world.cloud.fail("RunInstances", Unreachable("timed out"))
    await world.launch((a_cell("a"), spec))
    world.cloud.fail("RunInstances", TokenConflict("refused", code=code))
    assert await world.launcher.resume(world.written["kip-a"], spec) == Found(None, sure=sure)
