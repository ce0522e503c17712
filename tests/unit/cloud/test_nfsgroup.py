"""Whom a security group lets reach NFS."""

from __future__ import annotations

from typing import Any

import pytest

from kip.cloud.nfsgroup import image_cache_tags, is_image_cache, to_nfs_group


@pytest.mark.parametrize(
    ("protocol", "ports", "admitted"),
    [
        ("tcp", (2049, 2049), True),
        ("6", (2000, 3000), True),
        ("-1", None, True),
        ("tcp", (111, 111), False),
        ("udp", (2049, 2049), False),
    ],
)
def test_rules_count_by_protocol_and_ports(
    protocol: str, ports: tuple[int, int] | None, admitted: bool
) -> None:
    rule: dict[str, Any] = {"IpProtocol": protocol, "UserIdGroupPairs": [{"GroupId": "sg-2"}]}
    if ports:
        rule |= {"FromPort": ports[0], "ToPort": ports[1]}
    group = to_nfs_group({"GroupId": "sg-1", "GroupName": "mine", "VpcId": "vpc-1", "IpPermissions": [rule]})
    assert group.admits == ({"sg-2"} if admitted else frozenset())


def test_a_range_of_addresses_is_no_group() -> None:
    rule = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    assert not to_nfs_group({"GroupId": "sg-1", "GroupName": "mine", "IpPermissions": [rule]}).admits


def test_the_tags_are_of_one_cluster() -> None:
    tags = image_cache_tags("blue", "kip-blue-efs")
    assert is_image_cache(tags, "blue")
    assert not is_image_cache(tags, "green")
    assert not is_image_cache({**tags, "kip.elotl.co/purpose": "cells"}, "blue")
