"""What a teardown takes, what it leaves, and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from kip.cloud.base import Instance
from kip.efs.plan import Found
from kip.efs.removal import removal

from .test_plan import MOUNT, WHOLE, system, target


def test_everything_goes_in_the_order_that_aws_allows_but_the_cells_group() -> None:
    todo = removal(WHOLE, "blue")
    assert [(step.kind, step.id) for step in todo.steps] == [
        ("mount target", "fsmt-a"),
        ("mount target", "fsmt-b"),
        ("file system", "fs-1"),
        ("mount targets' group", "sg-mount"),
    ]
    (left,) = todo.left
    assert (left.kind, left.id) == ("cells' group", "sg-cells")
    assert "kip cleanup" in left.why
    assert not todo.kept_of_ours


@pytest.mark.parametrize("groups", [("sg-theirs",), ("sg-mount", "sg-theirs"), (), None])
def test_a_mount_target_that_is_not_ours_alone_stays_and_keeps_its_file_system(groups: object) -> None:
    todo = removal(replace(WHOLE, mount_targets=(target("a", groups=groups), target("b"))), "blue")
    gone = {step.id for step in todo.steps}
    assert "fsmt-a" not in gone
    assert "fs-1" not in gone
    assert "fsmt-b" in gone
    assert {"fsmt-a", "fs-1"} <= {one.id for one in todo.left}
    assert ("sg-mount" in gone) == ("sg-mount" not in (groups or ()))  # type: ignore[operator]
    assert todo.kept_of_ours


def test_what_is_going_already_is_waited_for_whatever_it_wears() -> None:
    todo = removal(replace(WHOLE, mount_targets=(target("a", "deleting", groups=None),)), "blue")
    assert [step.id for step in todo.steps] == ["fsmt-a", "fs-1", "sg-mount"]


def test_what_the_manual_steps_made_is_noted_and_stays() -> None:
    todo = removal(Found(file_systems=(system("fs-9", tags={"Name": "kip-efs"}),)), "blue")
    assert not todo.steps
    assert "fs-9 is called kip-efs" in todo.notes[0]


def test_a_broken_run_has_left_a_group_only() -> None:
    todo = removal(Found(mount_groups=(MOUNT,)), "blue")
    assert [step.id for step in todo.steps] == ["sg-mount"]


def test_a_file_system_in_error_goes_too() -> None:
    todo = removal(replace(WHOLE, file_systems=(system(state="error"),)), "blue")
    assert "fs-1" in {step.id for step in todo.steps}


def test_running_cells_are_a_reason_to_refuse() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    cells = tuple(
        Instance(id=f"i-{n}", state="running", instance_type="t3.nano", zone="z", launch_time=moment)
        for n in range(7)
    )
    (why,) = removal(replace(WHOLE, instances=cells), "blue").refusals
    assert "i-0, i-1, i-2, i-3, i-4 and 2 more" in why
    assert not removal(Found(instances=cells), "blue").refusals
