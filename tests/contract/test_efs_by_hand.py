"""The manual steps of enabling the image cache, by the AWS CLI's calls, give what `kip efs setup` gives."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner, Result

from kip import cli

from .conftest import LocalAwsTroubles

# Two subnets in one zone, as many VPCs have a public and a private one.
ZONES = ("us-east-1a", "us-east-1a", "us-east-1b", "us-east-1c")
_networks = itertools.count()


@dataclass
class Aws:
    """The local AWS, as the AWS CLI has it, and a VPC in it."""

    url: str
    ec2: Any
    efs: Any
    vpc: str

    def subnets(self) -> list[dict[str, Any]]:
        by_vpc = [{"Name": "vpc-id", "Values": [self.vpc]}]
        return sorted(
            self.ec2.describe_subnets(Filters=by_vpc)["Subnets"], key=lambda subnet: subnet["SubnetId"]
        )

    def file_systems(self, key: str, value: str) -> list[dict[str, Any]]:
        """Those with a tag."""
        wanted = {"Key": key, "Value": value}
        return [one for one in self.efs.describe_file_systems()["FileSystems"] if wanted in one["Tags"]]


@pytest.fixture
def aws(local_aws: str) -> Iterator[Aws]:
    """With states that last for a moment."""
    troubles = LocalAwsTroubles(local_aws)
    troubles.reset()
    troubles.set_efs_delay(0.5)
    how = {"region_name": "us-east-1", "endpoint_url": local_aws}
    how |= {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    ec2, efs = boto3.client("ec2", **how), boto3.client("efs", **how)
    number = next(_networks)
    vpc = ec2.create_vpc(CidrBlock=f"10.{number}.0.0/16")["Vpc"]["VpcId"]
    for index, zone in enumerate(ZONES):
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.{number}.{index}.0/24", AvailabilityZone=zone)
    yield Aws(local_aws, ec2, efs, vpc)
    troubles.reset()


@pytest.fixture
def kip(aws: Aws, tmp_path: Path) -> Callable[..., Result]:
    """`kip efs` with a provider.yaml for that VPC."""
    place = f"{{region: us-east-1, vpcID: {aws.vpc}, endpointURL: '{aws.url}'"
    keys = "accessKeyID: test, secretAccessKey: test}"
    path = tmp_path / "provider.yaml"
    path.write_text(f"apiVersion: v1\ncloud: {{aws: {place}, {keys}}}\ncluster: {{name: {aws.vpc}}}\n")
    return lambda command, *options: CliRunner().invoke(
        cli.main, ["efs", command, "--config", str(path), *options]
    )


def by_hand(aws: Aws) -> dict[str, str]:
    """The steps of the installation guide, one call for each command; the ids that it tells people to note."""
    cells = aws.ec2.create_security_group(GroupName="kip-cells", Description="Kip Cells", VpcId=aws.vpc)
    mount = aws.ec2.create_security_group(
        GroupName="kip-efs-mt", Description="Kip EFS Mount Target", VpcId=aws.vpc
    )
    # What `--protocol tcp --port 2049 --source-group` becomes.
    pair = {"GroupId": cells["GroupId"]}
    rule = {"IpProtocol": "tcp", "FromPort": 2049, "ToPort": 2049, "UserIdGroupPairs": [pair]}
    aws.ec2.authorize_security_group_ingress(GroupId=mount["GroupId"], IpPermissions=[rule])
    token = f"kip-efs-{aws.vpc[-8:]}"
    system = aws.efs.create_file_system(
        CreationToken=token, Tags=[{"Key": "Name", "Value": "kip-efs"}, {"Key": "vpc", "Value": aws.vpc}]
    )
    id_ = system["FileSystemId"]
    assert system["LifeCycleState"] == "creating"
    until(lambda: states(aws, id_)[0] == "available")
    refused = [code for subnet in aws.subnets() if (code := mount_by_hand(aws, id_, subnet, mount))]
    # The guide names each subnet; of one zone EFS takes the first.
    assert refused == ["MountTargetConflict"]
    until(lambda: set(states(aws, id_)) == {"available"})
    return {"cells": cells["GroupId"], "mount": mount["GroupId"], "system": id_}


def mount_by_hand(aws: Aws, system: str, subnet: dict[str, Any], group: dict[str, Any]) -> str:
    """One mount target; the error's code if it is refused."""
    try:
        aws.efs.create_mount_target(
            FileSystemId=system, SubnetId=subnet["SubnetId"], SecurityGroups=[group["GroupId"]]
        )
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def states(aws: Aws, system: str) -> list[str]:
    """Of the file system, and of its mount targets."""
    (found,) = aws.efs.describe_file_systems(FileSystemId=system)["FileSystems"]
    targets = aws.efs.describe_mount_targets(FileSystemId=system)["MountTargets"]
    return [found["LifeCycleState"], *(target["LifeCycleState"] for target in targets)]


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


def substance(aws: Aws, ids: dict[str, str]) -> dict[str, Any]:
    """What matters of it to a cell: where there is something to mount, and who may reach it."""
    (system,) = aws.efs.describe_file_systems(FileSystemId=ids["system"])["FileSystems"]
    targets = aws.efs.describe_mount_targets(FileSystemId=ids["system"])["MountTargets"]
    groups = {
        target["AvailabilityZoneName"]: aws.efs.describe_mount_target_security_groups(
            MountTargetId=target["MountTargetId"]
        )["SecurityGroups"]
        for target in targets
    }
    (mount,) = aws.ec2.describe_security_groups(GroupIds=[ids["mount"]])["SecurityGroups"]
    return {
        "performance": system["PerformanceMode"],
        "file system": system["LifeCycleState"],
        "mount targets": sorted(target["LifeCycleState"] for target in targets),
        "vpcs": {target["VpcId"] for target in targets},
        "worn": {zone: [known(id_, ids) for id_ in worn] for zone, worn in sorted(groups.items())},
        "ingress": [rule_of(permission, ids) for permission in mount["IpPermissions"]],
        "egress": [rule_of(permission, ids) for permission in mount["IpPermissionsEgress"]],
    }


def rule_of(permission: dict[str, Any], ids: dict[str, str]) -> tuple[Any, ...]:
    sources = sorted(known(pair["GroupId"], ids) for pair in permission.get("UserIdGroupPairs", []))
    ranges = sorted(found["CidrIp"] for found in permission.get("IpRanges", []))
    return (permission["IpProtocol"], permission.get("FromPort"), permission.get("ToPort"), sources, ranges)


def known(id_: str, ids: dict[str, str]) -> str:
    """Which of the two groups that is."""
    return next((name for name, known_id in ids.items() if known_id == id_), id_)


def made_by_kip(aws: Aws, told: dict[str, Any]) -> dict[str, str]:
    ids = {step["kind"]: step["id"] for step in told["done"]}
    return {
        "cells": ids["cells' group"],
        "mount": ids["mount targets' group"],
        "system": ids["file system"],
    }


def test_both_ways_lead_to_the_same(aws: Aws, kip: Callable[..., Result]) -> None:
    hand = by_hand(aws)
    result = kip("setup", "-o", "json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    ours = made_by_kip(aws, told)
    expected = substance(aws, hand)
    assert substance(aws, ours) == expected
    # And that is what a cell needs.
    assert expected["worn"] == {zone: ["mount"] for zone in sorted(set(ZONES))}
    assert expected["ingress"] == [("tcp", 2049, 2049, ["cells"], [])]
    assert told["endpoint"] == f"{ours['system']}.efs.us-east-1.amazonaws.com:/"
    # What is meant to differ: encryption, throughput, and the tags by which it is found again.
    systems = {
        id_: aws.efs.describe_file_systems(FileSystemId=id_)["FileSystems"][0]
        for id_ in (hand["system"], ours["system"])
    }
    assert [(s["Encrypted"], s["ThroughputMode"]) for s in systems.values()] == [
        (False, "bursting"),
        (True, "elastic"),
    ]


def test_the_cells_of_kip_are_in_the_group_that_may_mount(aws: Aws, kip: Callable[..., Result]) -> None:
    """Setup makes no group of its own for cells: it takes the one that the operator gives every cell."""
    told = json.loads(kip("setup", "-o", "json").stdout)
    (group,) = aws.ec2.describe_security_groups(GroupIds=[made_by_kip(aws, told)["cells"]])["SecurityGroups"]
    assert group["GroupName"] == f"kip-{aws.vpc}-cells"
    assert {"Key": "kip.elotl.co/cluster", "Value": aws.vpc} in group["Tags"]


def test_what_was_made_by_hand_is_neither_taken_nor_removed(aws: Aws, kip: Callable[..., Result]) -> None:
    hand = by_hand(aws)
    before = substance(aws, hand)
    assert f"note: {hand['system']} is called kip-efs" in kip("setup").stdout
    torn = kip("teardown", "--yes")
    assert torn.exit_code == 0, torn.output
    assert substance(aws, hand) == before
    assert not aws.file_systems("kip.elotl.co/cluster", aws.vpc)


def test_setup_twice_changes_nothing_and_teardown_leaves_nothing(
    aws: Aws, kip: Callable[..., Result]
) -> None:
    first, second = (json.loads(kip("setup", "-o", "json").stdout) for _ in range(2))
    assert made_by_kip(aws, first) == made_by_kip(aws, second)
    assert {step["action"] for step in second["steps"]} == {"keep"}
    assert kip("status").exit_code == 0
    assert kip("teardown", "--yes").exit_code == 0
    assert kip("status").exit_code == 1
    by_vpc = [{"Name": "vpc-id", "Values": [aws.vpc]}]
    names = {g["GroupName"] for g in aws.ec2.describe_security_groups(Filters=by_vpc)["SecurityGroups"]}
    assert names == {"default", f"kip-{aws.vpc}-cells"}
    assert aws.ec2.describe_network_interfaces(Filters=by_vpc)["NetworkInterfaces"] == []
