"""Zones of the local account, each with a subnet."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest

from kip.local.aws.backend import SUBNET_ID, Site

SECOND = "subnet-0c1b0000000000002"
SITE = Site(cidr=IPv4Network("10.77.0.0/24"))


@pytest.mark.parametrize(
    ("zones", "expected"),
    [
        (1, [(SUBNET_ID, "us-east-1a", "10.77.0.0/24")]),
        (2, [(SUBNET_ID, "us-east-1a", "10.77.0.0/25"), (SECOND, "us-east-1b", "10.77.0.128/25")]),
    ],
)
def test_the_zones_share_the_vpc(zones: int, expected: list[tuple[str, str, str]]) -> None:
    found = replace(SITE, zones=zones).subnets()
    assert [(id_, zone, str(cidr)) for id_, zone, cidr in found] == expected


def test_an_instance_is_in_the_zone_of_its_subnet(start: Any) -> None:
    aws = start(site=replace(SITE, zones=2))
    _, text = aws.call("DescribeSubnets")
    assert re.findall(r"<availabilityZone>([^<]+)<", text) == ["us-east-1a", "us-east-1b"]
    (id_,) = aws.run(NetworkInterface__1__SubnetId=SECOND)
    shown = aws.instances()[id_]
    assert (shown["zone"], shown["private_ip"]) == ("us-east-1b", "10.77.0.132")
    assert (shown["subnet_cidr"], shown["vpc_cidr"]) == ("10.77.0.128/25", "10.77.0.0/24")
