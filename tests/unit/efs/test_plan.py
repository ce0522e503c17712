"""What is there and what is wanted become steps, refusals and notes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kip.cloud.base import SecurityGroup, Subnet
from kip.cloud.efs import FileSystem, MountTarget, State
from kip.cloud.nfsgroup import NfsGroup, image_cache_tags
from kip.efs.plan import Found, Plan, Wanted, creation_token, incomplete, new_file_system, plan

VPC = "vpc-1"
TAGS = image_cache_tags("blue", "kip-blue-efs")
CELLS = SecurityGroup(id="sg-cells", name="kip-blue-cells", vpc_id=VPC)
MOUNT = NfsGroup(id="sg-mount", name="kip-blue-efs-mt", vpc_id=VPC, tags=TAGS, admits=frozenset({"sg-cells"}))


def subnet(zone: str, number: int = 1, *, vpc: str = VPC, free: int = 100) -> Subnet:
    id_ = f"subnet-{zone}{number}"
    return Subnet(
        id=id_, vpc_id=vpc, cidr="10.0.0.0/24", zone=f"us-east-1{zone}", free_addresses=free, public=False
    )


def system(id_: str = "fs-1", state: State = "available", **changes: Any) -> FileSystem:
    given = {"token": "t", "tags": TAGS, "encrypted": True, "throughput": "elastic"}
    return FileSystem(id=id_, state=state, **{**given, **changes})


def target(zone: str, state: State = "available", groups: Any = ("sg-mount",), **changes: Any) -> MountTarget:
    given = {"file_system_id": "fs-1", "vpc_id": VPC, "subnet_id": f"subnet-{zone}1", "ip": "10.0.0.9"}
    return MountTarget(
        id=f"fsmt-{zone}",
        state=state,
        zone=f"us-east-1{zone}",
        security_group_ids=groups,
        **{**given, **changes},
    )


WANTED = Wanted(cluster="blue", vpc_id=VPC, subnets=(subnet("a"), subnet("b")))
WHOLE = Found(
    cells_groups=(CELLS,),
    mount_groups=(MOUNT,),
    named_groups=(MOUNT,),
    file_systems=(system(),),
    mount_targets=(target("a"), target("b")),
)


def actions(todo: Plan) -> list[tuple[str, str]]:
    return [(step.action, step.kind) for step in todo.steps]


def test_of_nothing_everything_is_made_in_the_order_of_what_needs_what() -> None:
    todo = plan(Found(), WANTED)
    assert actions(todo) == [
        ("create", "cells' group"),
        ("create", "mount targets' group"),
        ("create", "rule"),
        ("create", "file system"),
        ("create", "mount target"),
        ("create", "mount target"),
    ]
    assert [step.subnet_id for step in todo.steps[-2:]] == ["subnet-a1", "subnet-b1"]
    assert not todo.refusals
    assert len(list(incomplete(todo))) == 6


def test_of_everything_nothing_is_made() -> None:
    todo = plan(WHOLE, WANTED)
    assert not todo.todo
    assert not todo.notes
    assert not list(incomplete(todo))


@pytest.mark.parametrize(
    ("missing", "kind"),
    [
        ({"cells_groups": ()}, "cells' group"),
        ({"mount_groups": (), "named_groups": ()}, "mount targets' group"),
        ({"mount_groups": (replace(MOUNT, admits=frozenset()),)}, "rule"),
        ({"file_systems": (), "mount_targets": ()}, "file system"),
        ({"mount_targets": (target("b"),)}, "mount target"),
    ],
)
def test_what_is_missing_is_made_and_the_rest_kept(missing: dict[str, Any], kind: str) -> None:
    todo = plan(replace(WHOLE, **missing), WANTED)
    assert todo.todo[0].kind == kind
    kept = {step.kind for step in todo.steps if step.action == "keep"}
    assert kept
    assert len(todo.steps) == 6


def test_a_zone_gets_one_mount_target_whatever_the_number_of_its_subnets() -> None:
    todo = plan(Found(), replace(WANTED, subnets=(subnet("a", 2), subnet("a", 1), subnet("b"))))
    made = [step for step in todo.steps if step.kind == "mount target"]
    assert [step.subnet_id for step in made] == ["subnet-a2", "subnet-b1"]
    assert "also for the 1 other subnet of the zone" in made[0].why


def test_two_named_subnets_of_one_zone_are_refused() -> None:
    todo = plan(Found(), replace(WANTED, subnets=(subnet("a", 2), subnet("a", 1)), named=True))
    (why,) = todo.refusals
    assert "subnet-a1, subnet-a2 are all in us-east-1a" in why


def test_a_mount_target_in_another_subnet_of_the_zone_is_good_enough() -> None:
    todo = plan(replace(WHOLE, mount_targets=(target("a", subnet_id="subnet-a7"), target("b"))), WANTED)
    assert not todo.todo


def test_a_mount_target_without_the_group_gets_it() -> None:
    todo = plan(replace(WHOLE, mount_targets=(target("a", groups=("sg-default",)), target("b"))), WANTED)
    (step,) = todo.todo
    assert (step.action, step.kind, step.id) == ("change", "mount target", "fsmt-a")
    assert "sg-default" in step.why


def test_a_mount_target_whose_groups_are_not_told_yet_is_left_alone() -> None:
    todo = plan(replace(WHOLE, mount_targets=(target("a", "creating", groups=None), target("b"))), WANTED)
    assert not todo.todo
    assert list(incomplete(todo)) == ["mount target us-east-1a subnet-a1: creating"]


def test_what_is_going_is_made_anew_when_it_is_gone() -> None:
    found = replace(WHOLE, file_systems=(system(state="deleting"),), mount_targets=(target("a", "deleting"),))
    todo = plan(found, WANTED)
    steps = {step.kind: step for step in todo.todo}
    assert "when fs-1 is gone" in steps["file system"].why
    living = plan(replace(WHOLE, mount_targets=(target("a", "deleting"), target("b"))), WANTED)
    (step,) = living.todo
    assert "when fsmt-a is gone" in step.why


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        (replace(WHOLE, file_systems=(system(), system("fs-2"))), WANTED, "fs-1, fs-2 all have the tags"),
        (
            replace(WHOLE, mount_targets=(target("a", vpc_id="vpc-2"),)),
            WANTED,
            "fs-1 has mount targets in vpc-2",
        ),
        (replace(WHOLE, file_systems=(system(state="error"),)), WANTED, "fs-1 is in the state error"),
        (
            Found(named_groups=(NfsGroup(id="sg-7", name="kip-blue-efs-mt", vpc_id=VPC),)),
            WANTED,
            "sg-7 in vpc-1 is called kip-blue-efs-mt, but does not have the tags",
        ),
        (Found(), replace(WANTED, subnets=()), "vpc-1 has no subnet"),
        (
            Found(),
            replace(WANTED, subnets=(subnet("a", vpc="vpc-2"),)),
            "subnet-a1 is in vpc-2, not in vpc-1",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(found: Found, wanted: Wanted, expected: str) -> None:
    (why,) = plan(found, wanted).refusals
    assert expected in why


def test_a_group_of_that_name_in_another_vpc_is_nobodys_business() -> None:
    theirs = NfsGroup(id="sg-7", name="kip-blue-efs-mt", vpc_id="vpc-2")
    assert not plan(Found(named_groups=(theirs,)), WANTED).refusals


def test_what_cannot_be_changed_any_more_is_noted() -> None:
    found = replace(WHOLE, file_systems=(system(encrypted=False, throughput="bursting"),))
    encrypted, throughput = plan(found, replace(WANTED, throughput="elastic")).notes
    assert "fs-1 is not encrypted, which cannot be changed" in encrypted
    assert "aws efs update-file-system --file-system-id fs-1 --throughput-mode elastic" in throughput
    assert not plan(found, replace(WANTED, encrypted=False)).notes


def test_what_the_manual_steps_made_is_told_and_not_taken() -> None:
    by_hand = system("fs-9", tags={"Name": "kip-efs"})
    group = NfsGroup(id="sg-9", name="kip-efs-mt", vpc_id=VPC)
    todo = plan(Found(file_systems=(by_hand,), named_groups=(group,)), WANTED)
    assert {step.action for step in todo.steps} == {"create"}
    assert [note.split()[0] for note in todo.notes] == ["fs-9", "sg-9"]


def test_groups_that_are_asked_for_get_rules_of_their_own() -> None:
    todo = plan(WHOLE, replace(WANTED, admit=("sg-nodes",)))
    (step,) = todo.todo
    assert (step.kind, step.id, step.name) == ("rule", "sg-nodes", "tcp 2049 from sg-nodes")


def test_the_days_until_cheaper_storage_are_set_when_they_differ() -> None:
    wanted = replace(WANTED, lifecycle_days=30)
    assert [step.kind for step in plan(WHOLE, wanted).todo] == ["lifecycle"]
    assert not plan(replace(WHOLE, lifecycle_days=30), wanted).todo
    assert not plan(replace(WHOLE, lifecycle_days=7), WANTED).todo


def test_other_clusters_have_file_systems_of_their_own() -> None:
    theirs = system("fs-2", tags=image_cache_tags("green", "kip-green-efs"))
    todo = plan(Found(file_systems=(theirs,)), WANTED)
    assert next(step for step in todo.steps if step.kind == "file system").action == "create"
    assert creation_token("green", VPC) != creation_token("blue", VPC)


def test_a_token_fits_whatever_the_cluster_is_called() -> None:
    assert len(new_file_system(replace(WANTED, cluster="x" * 200)).token) <= 64
