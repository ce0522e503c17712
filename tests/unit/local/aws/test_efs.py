"""What EFS does and moto does not; what clients rely on is in the contract suite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kip.local.aws.backend import SUBNET_ID, VPC_ID
from kip.local.aws.efs import action_of

Aws = Any
API = "/2015-02-01"


def make(aws: Aws, token: str = "token", **more: Any) -> Any:
    status, answer = aws.rest("POST", f"{API}/file-systems", {"CreationToken": token, **more})
    assert status == 201, answer
    return answer


def mount(aws: Aws, system: str, **more: Any) -> tuple[int, Any]:
    body = {"FileSystemId": system, "SubnetId": SUBNET_ID, **more}
    status, answer = aws.rest("POST", f"{API}/mount-targets", body)
    return status, answer


@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        ("POST", "/file-systems", "CreateFileSystem"),
        ("GET", "/file-systems", "DescribeFileSystems"),
        ("DELETE", "/file-systems/fs-1", "DeleteFileSystem"),
        ("PUT", "/mount-targets/fsmt-1/security-groups", "ModifyMountTargetSecurityGroups"),
        ("PATCH", "/file-systems", None),
        ("GET", "/elsewhere", None),
    ],
)
def test_calls_have_the_names_of_their_actions(method: str, path: str, action: str | None) -> None:
    assert action_of(method, API + path) == action


def test_file_systems_and_what_is_on_its_way_survive(start: Callable[..., Aws]) -> None:
    aws = start()
    aws.control("PUT", "settings", {"efs_delay_s": 0})
    system = make(aws)["FileSystemId"]
    _, target = mount(aws, system)
    aws.control("PUT", "settings", {"efs_delay_s": 3600})
    aws.rest("DELETE", f"{API}/mount-targets/{target['MountTargetId']}")
    again = start()
    (found,) = again.rest("GET", f"{API}/file-systems")[1]["FileSystems"]
    assert (found["FileSystemId"], found["LifeCycleState"]) == (system, "available")
    (seen,) = again.rest("GET", f"{API}/mount-targets?FileSystemId={system}")[1]["MountTargets"]
    assert (seen["MountTargetId"], seen["LifeCycleState"]) == (target["MountTargetId"], "deleting")
    assert again.control("GET", "settings")["efs_delay_s"] == 3600


def test_a_used_token_is_answered_with_its_file_system(aws: Aws) -> None:
    system = make(aws)["FileSystemId"]
    status, answer = aws.rest("POST", f"{API}/file-systems", {"CreationToken": "token"})
    assert (status, answer["ErrorCode"], answer["FileSystemId"]) == (409, "FileSystemAlreadyExists", system)


@pytest.mark.parametrize("token", ["", "x" * 65])
def test_a_token_that_cannot_be_is_refused(aws: Aws, token: str) -> None:
    status, answer = aws.rest("POST", f"{API}/file-systems", {"CreationToken": token})
    assert (status, answer["__type"]) == (400, "BadRequest")


def test_a_mount_target_is_an_interface_of_the_vpc(aws: Aws) -> None:
    aws.control("PUT", "settings", {"efs_delay_s": 0})
    system = make(aws)["FileSystemId"]
    status, target = mount(aws, system)
    assert status == 200
    text = aws.call("DescribeNetworkInterfaces")[1]
    assert f"<privateIpAddress>{target['IpAddress']}</privateIpAddress>" in text
    assert f"Mount target {target['MountTargetId']} for file system {system}" in text
    # Without security groups it wears the VPC's default one.
    path = f"{API}/mount-targets/{target['MountTargetId']}/security-groups"
    default = aws.account.backend.get_default_security_group(VPC_ID).id
    assert aws.rest("GET", path)[1]["SecurityGroups"] == [default]


def test_security_groups_have_to_be_of_the_subnets_vpc(aws: Aws) -> None:
    aws.control("PUT", "settings", {"efs_delay_s": 0})
    system = make(aws)["FileSystemId"]
    other = aws.account.backend.create_vpc("10.9.0.0/16").id
    foreign = aws.account.backend.create_security_group("theirs", "theirs", vpc_id=other).id
    assert mount(aws, system, SecurityGroups=[foreign])[1]["__type"] == "SecurityGroupNotFound"
    own = [aws.account.backend.create_security_group(f"own-{n}", "ours", vpc_id=VPC_ID).id for n in range(6)]
    assert mount(aws, system, SecurityGroups=own)[1]["__type"] == "SecurityGroupLimitExceeded"
    assert mount(aws, system, SecurityGroups=own[:5])[0] == 200


def test_a_full_subnet_has_no_room_and_nothing_is_left_of_the_try(aws: Aws) -> None:
    aws.control("PUT", "settings", {"efs_delay_s": 0})
    system = make(aws)["FileSystemId"]
    ids = aws.run(MaxCount=22)
    assert mount(aws, system)[1]["__type"] == "NoFreeAddressesInSubnet"
    aws.call("TerminateInstances", InstanceId__1=ids[0])
    assert mount(aws, system)[0] == 200


def test_faults_speak_json_and_calls_are_recorded_by_name(aws: Aws) -> None:
    fault = {
        "action": "CreateFileSystem",
        "error": "FileSystemLimitExceeded",
        "match": {"CreationToken": "b"},
    }
    aws.control("POST", "faults", fault)
    make(aws, "a")
    status, answer = aws.rest("POST", f"{API}/file-systems", {"CreationToken": "b"})
    assert (status, answer["ErrorCode"]) == (400, "FileSystemLimitExceeded")
    calls = aws.control("GET", "calls?action=CreateFileSystem")["calls"]
    assert [call["error"] for call in calls] == [None, "FileSystemLimitExceeded"]
