"""What the route tables lead where, for the machine room."""

from __future__ import annotations

import re
from typing import Any

import pytest

RANGE = "192.0.2.0/24"


@pytest.fixture
def led(aws: Any) -> Any:
    """An AWS with a gateway that the VPC's main table leads a range to, and a machine beside it."""
    aws.gateway, aws.beside = (*aws.run(), *aws.run())
    (aws.table,) = re.findall(
        r"<routeTableId>(rtb-\w+)</routeTableId><ass", aws.call("DescribeRouteTables")[1]
    )[:1]
    described = aws.call("DescribeInstances", InstanceId__1=aws.gateway)[1]
    (interface,) = set(re.findall(r"<networkInterfaceId>(eni-\w+)<", described))
    route = {"RouteTableId": aws.table, "DestinationCidrBlock": RANGE}
    assert aws.call("CreateRoute", **route, NetworkInterfaceId=interface)[0] == 200
    return aws


def passing(aws: Any) -> None:
    changed = {"InstanceId": aws.gateway, "SourceDestCheck__Value": "false"}
    assert aws.call("ModifyInstanceAttribute", **changed)[0] == 200


def test_an_interface_that_checks_destinations_gets_nothing_for_others(led: Any) -> None:
    assert led.instances()[led.beside]["routes"] == {}
    passing(led)
    assert led.instances()[led.beside]["routes"] == {RANGE: led.instances()[led.gateway]["private_ip"]}
    assert led.instances()[led.gateway]["routes"] == {}, "it would lead to itself"


def test_a_table_of_the_subnets_own_counts_before_the_main_one(led: Any) -> None:
    passing(led)
    (own,) = set(re.findall(r"rtb-\w+", led.call("CreateRouteTable", VpcId="vpc-0c1b0000000000001")[1]))
    subnet = "subnet-0c1b0000000000001"
    assert led.call("AssociateRouteTable", RouteTableId=own, SubnetId=subnet)[0] == 200
    assert led.instances()[led.beside]["routes"] == {}


@pytest.mark.parametrize("end", ["route", "machine"])
def test_it_ends_with_the_route_or_its_machine(led: Any, end: str) -> None:
    passing(led)
    if end == "route":
        led.call("DeleteRoute", RouteTableId=led.table, DestinationCidrBlock=RANGE)
    else:
        led.call("TerminateInstances", InstanceId__1=led.gateway)
    assert led.instances()[led.beside]["routes"] == {}
