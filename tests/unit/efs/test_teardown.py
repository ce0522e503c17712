"""Taking it down."""

from __future__ import annotations

from typing import Any

import pytest

from kip.cloud.errors import NotAuthorized, Unreachable
from kip.efs.look import look
from kip.efs.removal import removal

World = Any


async def left(world: World) -> list[str]:
    found = await world.look()
    return [
        *(one.id for one in found.mount_targets),
        *(one.id for one in found.file_systems),
        *(one.id for one in found.mount_groups),
    ]


async def test_what_was_made_goes_and_nothing_else(world: World) -> None:
    theirs = world.cloud.add_group("kip-efs-mt")
    await world.set_up()
    world.cloud.efs_delay = 60
    outcome = await world.take_down()
    assert not outcome.failed
    assert await left(world) == []
    found = await world.look()
    assert [group.id for group in found.named_groups] == [theirs]
    assert [group.name for group in found.cells_groups] == ["kip-blue-cells"]
    assert not (await world.removal()).steps


async def test_the_volume_of_another_cluster_stays(world: World) -> None:
    await world.set_up()
    theirs = await look(world.places, "green")
    assert not removal(theirs, "green").steps
    assert not removal(theirs, "green").left


@pytest.mark.parametrize("action", ["DeleteMountTarget", "DeleteFileSystem", "DeleteSecurityGroup"])
async def test_answers_that_are_lost_are_asked_for_again(world: World, action: str) -> None:
    await world.set_up()
    world.cloud.efs_delay = 5
    world.cloud.fail(action, Unreachable("lost"))
    assert not (await world.take_down()).failed
    assert await left(world) == []


async def test_what_does_not_go_keeps_what_depends_on_it_and_is_said(world: World) -> None:
    await world.set_up()
    world.cloud.fail("DeleteMountTarget", NotAuthorized("no", action="DeleteMountTarget"))
    outcome = await world.take_down()
    reasons = {step.kind: why for step, why in outcome.failed}
    assert "not allowed to call elasticfilesystem:DeleteMountTarget" in reasons["mount target"]
    assert "run again" in reasons["file system"]
    assert "run again" in reasons["mount targets' group"]
    assert not world.cloud.called("DeleteFileSystem")
    assert not (await world.take_down()).failed
    assert await left(world) == []


async def test_a_run_that_ran_out_of_time_is_gone_on_with(world: World) -> None:
    await world.set_up()
    world.cloud.efs_delay = 100
    outcome = await world.take_down(timeout_s=10)
    assert "not within 10 s" in outcome.failed[0][1]
    assert not (await world.take_down()).failed
    assert await left(world) == []


async def test_a_mount_target_of_somebody_else_stays_with_all_that_it_needs(world: World) -> None:
    await world.set_up()
    (target, _) = (await world.look()).mount_targets
    theirs = world.cloud.add_group("theirs")
    await world.cloud.set_security_groups(target.id, [*target.security_group_ids, theirs])
    outcome = await world.take_down()
    assert not outcome.failed
    found = await world.look()
    assert [one.id for one in found.mount_targets] == [target.id]
    assert await left(world) == [target.id, await world.system_id(), found.mount_groups[0].id]
