"""Making it, also when it is broken off at any call, answers are lost, and AWS takes its time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kip.cloud.errors import CloudError, NotAuthorized, Unreachable, from_code
from kip.efs.plan import incomplete
from kip.efs.waiting import Outcome

World = Any

WRITES = (
    "CreateSecurityGroup",
    "AuthorizeSecurityGroupIngress",
    "CreateFileSystem",
    "PutLifecycleConfiguration",
    "CreateMountTarget",
)


async def assert_whole(world: World) -> None:
    """One of each, a mount target in each of the two zones, and nothing to do."""
    assert not list(incomplete(await world.plan()))
    found = await world.look()
    assert len(found.cells_groups) == len(found.mount_groups) == len(found.file_systems) == 1
    assert [target.zone for target in found.mount_targets] == ["us-east-1a", "us-east-1b"]
    assert found.mount_groups[0].admits == {found.cells_groups[0].id}


async def test_it_is_made_and_found_again(world: World) -> None:
    world.cloud.efs_delay = 90
    first = await world.set_up()
    assert not first.failed
    await assert_whole(world)
    made = len(world.cloud.calls)
    second = await world.set_up()
    assert [step.action for step in second.done] == ["keep"] * 6
    assert not [call for call in world.cloud.calls[made:] if call.action in WRITES]


async def test_each_thing_and_its_states_are_told(world: World) -> None:
    world.cloud.efs_delay = 70
    await world.set_up()
    told = "\n".join(world.told)
    assert "file system  kip-blue-efs  fs-00000000000000001  creating …" in told
    assert "file system  kip-blue-efs  fs-00000000000000001  made  available" in told
    waited = [line for line in world.told if "fsmt-00000000000000001" in line and "creating" in line]
    assert len(waited) == 3  # at once, and every half minute


async def test_mount_targets_are_waited_for_together(world: World) -> None:
    world.cloud.efs_delay = 90
    began = world.clock.monotonic()
    await world.set_up()
    assert world.clock.monotonic() - began < 90 * 2 + 30


@pytest.mark.parametrize("action", WRITES)
async def test_an_answer_that_is_lost_makes_nothing_twice(world: World, action: str) -> None:
    world.cloud.fail(action, Unreachable("lost"), after=True)
    outcome = await world.set_up(lifecycle_days=30)
    assert not outcome.failed
    await assert_whole(world)
    assert (await world.look()).lifecycle_days == 30


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", range(12))
async def test_a_run_that_is_broken_off_anywhere_is_gone_on_with(
    world: World, call: int, after: bool
) -> None:
    world.cloud.efs_delay = 5
    await broken_off(world, call, after=after)
    assert not (await world.set_up()).failed
    await assert_whole(world)


async def broken_off(world: World, call: int, *, after: bool) -> None:
    """A run whose process ends at its n-th writing call, before or after that took effect."""
    left = call

    class End(BaseException):
        pass

    enter = world.cloud._enter

    async def counted(action: str, subject: object) -> CloudError | None:
        nonlocal left
        if action in WRITES:
            left -= 1
            if left < 0:
                if not after:
                    raise End
                return End()  # type: ignore[return-value]
        found: CloudError | None = await enter(action, subject)
        return found

    world.cloud._enter = counted
    try:
        await world.set_up()
    except End:
        pass
    world.cloud._enter = enter


async def test_two_runs_at_once_make_one_of_each(world: World) -> None:
    world.cloud.efs_delay = 5
    outcomes = await asyncio.gather(world.set_up(), world.set_up())
    assert [outcome.failed for outcome in outcomes] == [[], []]
    await assert_whole(world)


async def test_a_missing_permission_is_named_and_ends_the_run(world: World) -> None:
    world.cloud.fail("CreateFileSystem", NotAuthorized("no", action="CreateFileSystem"), times=99)
    outcome = await world.set_up()
    ((step, why),) = outcome.failed
    assert step.kind == "file system"
    assert "not allowed to call elasticfilesystem:CreateFileSystem" in why
    assert not world.cloud.called("CreateMountTarget")


async def test_what_was_just_made_may_not_be_known_everywhere_yet(world: World) -> None:
    world.cloud.fail("AuthorizeSecurityGroupIngress", not_known("InvalidGroup.NotFound"), times=1)
    world.cloud.fail("CreateMountTarget", not_known("SecurityGroupNotFound"), times=3)
    assert not (await world.set_up()).failed
    await assert_whole(world)


def not_known(code: str) -> CloudError:
    return from_code("", code, "does not exist")


async def test_it_is_given_up_with_what_was_seen(world: World) -> None:
    world.cloud.efs_delay = 1000
    ((step, why),) = (await world.set_up(timeout_s=60)).failed
    assert step.kind == "file system"
    assert "not within 60 s: file system  kip-blue-efs  fs-00000000000000001 is creating" in why


async def test_aws_may_be_out_of_reach_for_a_while(world: World) -> None:
    world.cloud.efs_delay = 60
    world.cloud.fail("DescribeMountTargets", Unreachable("away"), times=5)
    assert not (await world.set_up()).failed
    await assert_whole(world)


async def test_a_zone_without_efs_is_left_out_unless_it_was_asked_for(world: World) -> None:
    world.cloud.zones_without_efs = {"us-east-1b"}
    outcome = await world.set_up()
    assert not outcome.failed
    ((step, why),) = outcome.skipped
    assert (step.zone, why) == ("us-east-1b", "EFS is not in that zone")
    named: Outcome = await world.set_up(named=True)
    ((step, why),) = named.failed
    assert step.zone == "us-east-1b"
    assert "EFS is not in that zone" in why


async def test_one_mount_target_that_fails_keeps_no_other(world: World) -> None:
    world.cloud.fail("CreateMountTarget", from_code("CreateMountTarget", "NoFreeAddressesInSubnet", "full"))
    outcome = await world.set_up()
    ((step, why),) = outcome.failed
    assert step.zone == "us-east-1a"
    assert "name another subnet of that zone" in why
    assert [t.zone for t in (await world.look()).mount_targets] == ["us-east-1b"]


async def test_a_mount_target_in_error_is_said_with_what_to_do(world: World) -> None:
    await world.set_up()
    (target, _) = (await world.look()).mount_targets
    world.cloud.break_mount_target(target.id)
    ((_, why),) = (await world.set_up()).failed
    assert why == f"{target.id} is in the state error: `kip efs teardown`, then setup again"


async def test_it_waits_for_what_a_teardown_has_left_on_its_way(world: World) -> None:
    await world.set_up()
    first = await world.system_id()
    world.cloud.efs_delay = 40
    for target in await world.cloud.mount_targets(first):
        await world.cloud.delete_mount_target(target.id)
    assert not (await world.set_up()).failed  # mount targets anew
    assert await world.system_id() == first
    world.cloud.efs_delay = 0
    await world.take_down()
    world.cloud.efs_delay = 40
    await world.set_up()
    await assert_whole(world)


async def test_a_mount_target_of_somebody_else_keeps_its_groups(world: World) -> None:
    await world.set_up()
    (target, _) = (await world.look()).mount_targets
    theirs = world.cloud.add_group("theirs")
    await world.cloud.set_security_groups(target.id, [theirs])
    assert not (await world.set_up()).failed
    (changed, _) = (await world.look()).mount_targets
    assert changed.security_group_ids == (theirs, *target.security_group_ids)


async def test_a_group_that_is_there_is_not_brought_to_this_configuration(world: World) -> None:
    """The operator's own may have ranges that whoever calls this does not know."""
    group = await world.cloud.ensure_cell_security_group(
        cluster="blue", vpc_id=world.cloud.vpc_id, extra_cidrs=("100.64.0.0/16",)
    )
    before = dict(world.cloud.ingress[group])
    await world.set_up()
    assert world.cloud.ingress[group] == before
