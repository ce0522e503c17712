"""The rules of a cell's security group."""

from __future__ import annotations

from typing import Any

import pytest

from kip.cloud.errors import from_code
from kip.cloud.network import Ec2Network, missing_rules, security_group_name, vpc_ranges, wanted_rules


def test_a_cell_is_reached_from_the_vpc_and_from_other_pod_networks() -> None:
    ssh, everything = wanted_rules(["10.0.0.0/16", "192.168.0.0/16"])
    assert (ssh["IpProtocol"], ssh["FromPort"], ssh["ToPort"]) == ("tcp", 22, 22)
    assert everything["IpProtocol"] == "-1"
    for rule in (ssh, everything):
        assert [r["CidrIp"] for r in rule["IpRanges"]] == ["10.0.0.0/16", "192.168.0.0/16"]


def test_nothing_is_missing_from_what_was_wanted() -> None:
    cidrs = ["10.0.0.0/16", "10.0.0.0/16", "192.168.0.0/16"]
    assert missing_rules(wanted_rules(cidrs), cidrs) == []


def test_only_what_is_missing_is_added() -> None:
    present = wanted_rules(["10.0.0.0/16"])[:1]
    missing = missing_rules(present, ["10.0.0.0/16", "10.1.0.0/16"])
    assert [(rule["IpProtocol"], [r["CidrIp"] for r in rule["IpRanges"]]) for rule in missing] == [
        ("tcp", ["10.1.0.0/16"]),
        ("-1", ["10.0.0.0/16", "10.1.0.0/16"]),
    ]


def test_a_rule_for_another_port_does_not_count() -> None:
    present = [{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": "10.0.0.0/16"}]}]
    assert len(missing_rules(present, ["10.0.0.0/16"])) == 2


def test_a_range_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.1/16"):
        wanted_rules(["10.0.0.1/16"])


def test_a_vpc_has_its_primary_range_first_and_no_range_that_left() -> None:
    def association(cidr: str, state: str) -> dict[str, object]:
        return {"CidrBlock": cidr, "CidrBlockState": {"State": state}}

    answer = {
        "CidrBlock": "10.0.0.0/16",
        "CidrBlockAssociationSet": [
            association("100.64.0.0/16", "associated"),
            association("10.0.0.0/16", "associated"),
            association("100.65.0.0/16", "disassociated"),
        ],
    }
    assert vpc_ranges(answer) == ("10.0.0.0/16", "100.64.0.0/16")
    assert vpc_ranges({"CidrBlock": "10.0.0.0/16"}) == ("10.0.0.0/16",)


def test_the_group_is_named_after_the_cluster() -> None:
    assert security_group_name("prod") == "kip-prod-cells"


class RacingSdk:
    """A VPC in which somebody else makes the group, or its rules, in the moment before our call."""

    def __init__(self, *, race: str) -> None:
        self._race = race
        self._others = {"GroupId": "sg-other", "IpPermissions": wanted_rules(["10.0.0.0/16"])[:1]}
        self.groups: list[dict[str, Any]] = [] if race == "group" else [{"GroupId": "sg-other"}]

    async def describe_vpcs(self, filters: list[Any]) -> list[dict[str, Any]]:
        return [{"CidrBlock": "10.0.0.0/16"}]

    async def describe_security_groups(self, filters: list[Any]) -> list[dict[str, Any]]:
        return [dict(group) for group in self.groups]

    async def create_security_group(self, **params: Any) -> dict[str, Any]:
        self.groups = [self._others]
        raise from_code("CreateSecurityGroup", "InvalidGroup.Duplicate", "exists")

    async def authorize_security_group_ingress(self, **params: Any) -> None:
        if self._race == "rules":
            self._race = ""
            self.groups = [self._others]
            raise from_code("AuthorizeSecurityGroupIngress", "InvalidPermission.Duplicate", "exists")
        self.groups[0]["IpPermissions"] = [
            *self.groups[0].get("IpPermissions", []),
            *params["IpPermissions"],
        ]


@pytest.mark.parametrize("race", ["group", "rules"])
async def test_two_processes_may_make_the_group_at_once(race: str) -> None:
    sdk = RacingSdk(race=race)
    assert await Ec2Network(sdk).ensure_cell_security_group(cluster="x", vpc_id="vpc-1") == "sg-other"
    assert missing_rules(sdk.groups[0]["IpPermissions"], ["10.0.0.0/16"]) == []
