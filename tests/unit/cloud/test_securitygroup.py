"""The rules of a cell's security group, and two processes that look after it at once."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from kip.cloud.errors import CloudError, from_code
from kip.cloud.network import Ec2Network
from kip.cloud.securitygroup import (
    Rule,
    changes,
    permissions,
    rules_of,
    security_group_name,
    wanted_rules,
)

VPC, PEERED = "10.0.0.0/16", "192.168.0.0/16"


def ssh(cidr: str) -> Rule:
    return Rule("tcp", (22, 22), cidr)


def everything(cidr: str) -> Rule:
    return Rule("-1", None, cidr)


def test_a_cell_is_reached_from_the_vpc_and_from_other_pod_networks() -> None:
    wanted = wanted_rules([VPC, PEERED, VPC])
    assert set(wanted) == {ssh(VPC), everything(VPC), ssh(PEERED), everything(PEERED)}
    assert all(description.startswith("kip: ") for description in wanted.values())


def test_nothing_is_to_be_done_about_what_was_wanted() -> None:
    todo = changes(wanted_rules([VPC, PEERED]), [PEERED, VPC])
    assert (todo.missing, todo.surplus) == ((), ())


def test_only_what_is_missing_is_added_and_a_rule_for_another_port_does_not_count() -> None:
    present = {ssh(VPC): "kip: SSH", Rule("tcp", (443, 443), VPC): ""}
    assert set(changes(present, [VPC, PEERED]).missing) == {everything(VPC), ssh(PEERED), everything(PEERED)}


def test_what_kip_made_for_a_range_of_before_goes_and_what_others_made_stays() -> None:
    somebody = {Rule("tcp", (443, 443), PEERED): "the gateway", ssh("1.2.3.4/32"): ""}
    todo = changes({**wanted_rules([VPC, PEERED]), **somebody}, [VPC])
    assert todo.missing == ()
    assert set(todo.surplus) == {ssh(PEERED), everything(PEERED)}


def test_somebody_elses_rule_may_be_one_that_is_wanted() -> None:
    """It is not made twice, which AWS refuses, and stays when it is wanted no longer."""
    theirs = {everything(PEERED): "all of the office"}
    assert everything(PEERED) not in changes(theirs, [VPC, PEERED]).missing
    assert changes(theirs, [VPC]).surplus == ()


def test_a_range_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.1/16"):
        wanted_rules(["10.0.0.1/16"])


def test_rules_come_back_as_they_were_sent() -> None:
    wanted = wanted_rules([VPC, PEERED])
    sent = permissions(wanted, wanted)
    assert len(sent) == 2, "one permission for each kind, not for each range"
    assert rules_of({"IpPermissions": sent}) == wanted


def test_the_group_is_named_after_the_cluster() -> None:
    assert security_group_name("prod") == "kip-prod-cells"


class Sdk:
    """A VPC's security groups; somebody else may do something in the moment before a call of ours."""

    def __init__(self, *groups: dict[str, Any]) -> None:
        self.groups = list(groups)
        self.calls: list[str] = []
        self.first: dict[str, Any] = {}

    def _called(self, action: str) -> None:
        self.calls.append(action)
        happens = self.first.pop(action, None)
        if happens is not None:
            happens()

    async def describe_vpcs(self, filters: list[Any]) -> list[dict[str, Any]]:
        return [{"CidrBlock": VPC}]

    async def describe_security_groups(self, filters: list[Any]) -> list[dict[str, Any]]:
        wanted = {f["Name"]: f["Values"][0] for f in filters}
        tag = {"Key": "kip.elotl.co/cluster", "Value": wanted.get("tag:kip.elotl.co/cluster")}
        return [
            dict(group)
            for group in self.groups
            if wanted.get("group-name") in (None, group["GroupName"])
            and (tag["Value"] is None or tag in group.get("Tags", []))
        ]

    async def create_security_group(self, **params: Any) -> dict[str, Any]:
        self._called("create")
        if any(group["GroupName"] == params["GroupName"] for group in self.groups):
            raise from_code("CreateSecurityGroup", "InvalidGroup.Duplicate", "exists")
        tags = params["TagSpecifications"][0]["Tags"]
        made = {"GroupId": "sg-made", "GroupName": params["GroupName"], "Tags": tags}
        self.groups.append(made)
        return dict(made)

    async def authorize_security_group_ingress(self, **params: Any) -> None:
        self._called("authorize")
        (group,) = [g for g in self.groups if g["GroupId"] == params["GroupId"]]
        added = rules_of(params)
        if rules_of(group).keys() & added.keys():
            raise from_code("AuthorizeSecurityGroupIngress", "InvalidPermission.Duplicate", "exists")
        rules = {**rules_of(group), **added}
        group["IpPermissions"] = permissions(rules, rules)

    async def revoke_security_group_ingress(self, **params: Any) -> None:
        self._called("revoke")
        (group,) = [g for g in self.groups if g["GroupId"] == params["GroupId"]]
        gone = rules_of(params)
        if not gone.keys() <= rules_of(group).keys():
            raise from_code("RevokeSecurityGroupIngress", "InvalidPermission.NotFound", "not there")
        rules = {rule: text for rule, text in rules_of(group).items() if rule not in gone}
        group["IpPermissions"] = permissions(rules, rules)


def group(name: str = "kip-x-cells", *, cidrs: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    rules = wanted_rules(cidrs)
    tags = [{"Key": "kip.elotl.co/cluster", "Value": "x"}]
    return {
        "GroupId": "sg-there",
        "GroupName": name,
        "Tags": tags,
        "IpPermissions": permissions(rules, rules),
        **more,
    }


async def ensure(sdk: Sdk, *extra: str) -> str:
    return await Ec2Network(sdk).ensure_cell_security_group(cluster="x", vpc_id="vpc-1", extra_cidrs=extra)


async def test_a_group_that_is_right_is_only_looked_at() -> None:
    sdk = Sdk(group(cidrs=(VPC,)))
    assert await ensure(sdk) == "sg-there"
    assert sdk.calls == []


async def test_it_is_found_by_its_tags_under_whatever_name() -> None:
    purpose = {"Key": "kip.elotl.co/purpose", "Value": "cells"}
    sdk = Sdk(group("of-old", Tags=[*group()["Tags"], purpose]))
    assert await ensure(sdk) == "sg-there"
    assert "create" not in sdk.calls


async def test_it_is_found_by_its_name_when_its_tags_are_gone() -> None:
    sdk = Sdk(group(Tags=[]))
    assert await ensure(sdk) == "sg-there"


async def test_another_group_of_the_cluster_is_not_taken_for_it() -> None:
    sdk = Sdk(group("image-cache"))
    assert await ensure(sdk) == "sg-made"
    assert rules_of(sdk.groups[0]) == {}


async def test_another_process_makes_the_group_at_the_same_moment() -> None:
    sdk = Sdk()
    sdk.first["create"] = lambda: sdk.groups.append(group())
    assert await ensure(sdk) == "sg-there"
    assert rules_of(sdk.groups[0]) == wanted_rules([VPC])


async def test_another_process_makes_the_rules_at_the_same_moment() -> None:
    """AWS refuses all of ours for one that is there; the others are still missing."""
    sdk = Sdk(group())
    theirs = {ssh(VPC): "kip: SSH"}
    sdk.first["authorize"] = lambda: sdk.groups[0].update(IpPermissions=permissions(theirs, theirs))
    assert await ensure(sdk) == "sg-there"
    assert rules_of(sdk.groups[0]) == wanted_rules([VPC])


async def test_another_process_revokes_a_rule_at_the_same_moment() -> None:
    sdk = Sdk(group(cidrs=(VPC, PEERED)))
    left = {rule: text for rule, text in wanted_rules([VPC, PEERED]).items() if rule != ssh(PEERED)}
    sdk.first["revoke"] = lambda: sdk.groups[0].update(IpPermissions=permissions(left, left))
    assert await ensure(sdk) == "sg-there"
    await ensure(sdk)
    assert rules_of(sdk.groups[0]) == wanted_rules([VPC])


async def test_a_race_that_is_never_won_is_an_error_in_the_end() -> None:
    sdk = Sdk(group())

    async def refuse(**params: Any) -> None:
        raise from_code("AuthorizeSecurityGroupIngress", "InvalidPermission.Duplicate", "exists")

    sdk.authorize_security_group_ingress = refuse  # type: ignore[method-assign]
    with pytest.raises(CloudError, match="exists"):
        await ensure(sdk)


async def test_a_missing_permission_to_revoke_is_told_once() -> None:
    sdk = Sdk(group(cidrs=(VPC, PEERED)))

    async def refuse(**params: Any) -> None:
        raise from_code("RevokeSecurityGroupIngress", "UnauthorizedOperation", "no")

    sdk.revoke_security_group_ingress = refuse  # type: ignore[method-assign]
    network = Ec2Network(sdk)
    with capture_logs() as told:
        for _ in range(3):
            await network.ensure_cell_security_group(cluster="x", vpc_id="vpc-1")
    (warning,) = told
    assert warning["log_level"] == "warning"
    assert "ec2:RevokeSecurityGroupIngress" in warning["error"]
    assert any(PEERED in rule for rule in warning["rules"])
