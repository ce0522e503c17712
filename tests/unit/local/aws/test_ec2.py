"""What EC2 does and moto does not; what clients rely on is in the contract suite."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest

Aws = Any


def code(text: str) -> str:
    found = re.search(r"<Code>([^<]+)</Code>", text)
    return found[1] if found else ""


def test_the_only_vpc_is_the_worlds_network_and_the_default_one(aws: Aws) -> None:
    _, text = aws.call("DescribeVpcs")
    assert re.findall(r"<cidrBlock>([^<]+)</cidrBlock><dhcp", text) == ["10.77.0.0/26"]
    assert "<isDefault>true</isDefault>" in text
    assert "kip-local" in text


def test_addresses_that_belong_to_others_are_never_given(aws: Aws) -> None:
    _, text = aws.call("DescribeSubnets")
    # 64 addresses; EC2 keeps 4 at the start and 1 at the end, which lies in the 16 withheld ones.
    assert "<availableIpAddressCount>44</availableIpAddressCount>" in text
    aws.run(MaxCount=22)
    given = {a for i in aws.instances().values() for a in (i["private_ip"], *i["secondary_ips"])}
    assert given == {f"10.77.0.{n}" for n in range(4, 48)}


def test_a_subnet_with_little_room_gives_fewer_and_a_full_one_none(aws: Aws) -> None:
    assert len(aws.run(MaxCount=30)) == 22
    status, text = aws.call(
        "RunInstances",
        ImageId="ami-0c1b0000020261105",
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        NetworkInterface__1__DeviceIndex=0,
        NetworkInterface__1__SubnetId="subnet-0c1b0000000000001",
    )
    assert (status, code(text)) == (400, "InsufficientFreeAddressesInSubnet")


def test_freed_addresses_come_again_in_the_order_they_were_freed(aws: Aws) -> None:
    ids = aws.run(MaxCount=22)
    for id_ in (ids[7], ids[3]):
        aws.call("TerminateInstances", InstanceId__1=id_)
    freed = [aws.instances()[id_]["private_ip"] for id_ in (ids[7], ids[3])]
    again = aws.run(MaxCount=2)
    assert [aws.instances()[id_]["private_ip"] for id_ in again] == freed


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"InstanceType": "t3.gigantic"}, "InvalidParameterValue"),
        ({"ImageId": "ami-0123456789abcdef0"}, "InvalidAMIID.NotFound"),
        ({"NetworkInterface__1__SubnetId": "subnet-0123456789abcdef0"}, "InvalidSubnetID.NotFound"),
        ({"NetworkInterface__1__SecurityGroupId__1": "sg-0123456789abcdef0"}, "InvalidGroup.NotFound"),
        ({"IamInstanceProfile__Name": "absent"}, "InvalidParameterValue"),
        ({"IamInstanceProfile__Arn": "arn:aws:iam::1:instance-profile/absent"}, "InvalidParameterValue"),
        ({"UserData": base64.b64encode(b"x" * 16385).decode()}, "InvalidParameterValue"),
        ({"UserData": "%%%"}, "InvalidUserData.Malformed"),
        ({"MinCount": 2, "MaxCount": 1}, "InvalidParameterValue"),
    ],
)
def test_a_wrong_launch_is_refused_and_leaves_nothing(
    aws: Aws, changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(AssertionError) as caught:
        aws.run("token", **changes)
    assert code(str(caught.value)) == expected
    assert aws.instances() == {}
    assert len(aws.run("token")) == 1


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("client-token", "token-1", True),
        ("client-token", "token-2", False),
        ("launch-index", "0", True),
        ("network-interface.addresses.private-ip-address", "10.77.0.5", True),
        ("network-interface.addresses.private-ip-address", "10.77.0.6", False),
        ("instance-lifecycle", "spot", False),
        ("metadata-options.http-tokens", "optional", True),
    ],
)
def test_instances_are_found_by_filters_that_moto_lacks(aws: Aws, name: str, value: str, found: bool) -> None:
    (id_,) = aws.run("token-1")
    status, text = aws.call("DescribeInstances", Filter__1__Name=name, Filter__1__Value__1=value)
    assert status == 200
    assert (id_ in text) is found


def test_an_unknown_filter_is_an_error_that_an_sdk_can_read(aws: Aws) -> None:
    aws.run()
    status, text = aws.call("DescribeInstances", Filter__1__Name="shoe-size", Filter__1__Value__1="43")
    assert (status, code(text)) == (400, "InvalidParameterValue")
    assert "shoe-size" in text


def test_network_interfaces_go_with_their_instance(aws: Aws) -> None:
    (id_,) = aws.run()
    assert "10.77.0.5" in aws.call("DescribeNetworkInterfaces")[1]
    aws.call("TerminateInstances", InstanceId__1=id_)
    assert "10.77.0.5" not in aws.call("DescribeNetworkInterfaces")[1]


def test_terminate_names_the_ids_it_does_not_know_and_ends_none(aws: Aws) -> None:
    (id_,) = aws.run()
    unknown = ["i-0123456789abcdef0", "i-0123456789abcdef1"]
    status, text = aws.call(
        "TerminateInstances", InstanceId__1=unknown[0], InstanceId__2=id_, InstanceId__3=unknown[1]
    )
    assert (status, code(text)) == (400, "InvalidInstanceID.NotFound")
    assert (
        f"The instance IDs &apos;{', '.join(unknown)}&apos; do not exist" in text
        or ", ".join(unknown) in text
    )
    assert aws.instances()[id_]["state"] == "running"


def test_terminated_instances_are_forgotten_in_the_end_but_not_their_tokens(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    (id_,) = aws.run("token")
    aws.call("TerminateInstances", InstanceId__1=id_)
    assert id_ in aws.instances()
    monkeypatch.setattr("kip.local.aws.account.TERMINATED_VISIBLE", -1.0)
    aws.call("DescribeInstances")
    assert aws.instances() == {}
    with pytest.raises(AssertionError, match="IdempotentInstanceTerminated"):
        aws.run("token")


def test_the_caller_can_ask_who_it_is(aws: Aws) -> None:
    status, text = aws.call("GetCallerIdentity", service="sts", version="2011-06-15")
    assert status == 200
    assert "<Account>123456789012</Account>" in text


def test_what_moto_does_not_know_is_an_error_that_an_sdk_can_read(aws: Aws) -> None:
    status, text = aws.call("InventTheWheel")
    assert (status, code(text)) == (500, "InternalError")
    assert "InventTheWheel" in text


def test_large_answers_come_in_pages(aws: Aws) -> None:
    status, first = aws.call("DescribeInstanceTypes", MaxResults=5)
    assert status == 200
    names = r"<instanceType>([^<]+)</instanceType>"
    assert len(re.findall(names, first)) == 5
    token = re.search(r"<nextToken>(\w+)</nextToken>", first)
    assert token
    _, second = aws.call("DescribeInstanceTypes", MaxResults=5, NextToken=token[1])
    assert len(set(re.findall(names, first + second))) == 10


def test_spot_costs_a_share_of_the_on_demand_price(aws: Aws) -> None:
    _, text = aws.call(
        "DescribeSpotPriceHistory",
        InstanceType__1="m5.large",
        Filter__1__Name="availability-zone",
        Filter__1__Value__1="us-east-1a",
    )
    assert re.findall(r"<spotPrice>([^<]+)</spotPrice>", text) == ["0.038400"]
    assert "nextToken" not in text


def test_a_dry_run_says_what_would_be_and_changes_nothing(aws: Aws) -> None:
    (instance,) = aws.run()
    table = re.findall(r"<routeTableId>(rtb-\w+)</routeTableId>", aws.call("DescribeRouteTables")[1])[0]
    route = {"RouteTableId": table, "DestinationCidrBlock": "192.0.2.0/24"}
    before = aws.call("DescribeRouteTables")[1]
    for action, parameters in (
        ("RunInstances", {"ImageId": "ami-0c1b0000020261105", "InstanceType": "t3.nano"}),
        ("TerminateInstances", {"InstanceId.1": instance}),
        ("CreateTags", {"ResourceId.1": instance, "Tag.1.Key": "a", "Tag.1.Value": "b"}),
        ("ModifyInstanceAttribute", {"InstanceId": instance, "SourceDestCheck.Value": "false"}),
        ("CreateRoute", {**route, "GatewayId": "igw-1"}),
        ("DeleteRoute", route),
    ):
        status, text = aws.call(action, DryRun="true", **parameters)
        assert (status, "<Code>DryRunOperation</Code>" in text) == (412, True), f"{action}: {text}"
    assert list(aws.instances()) == [instance]
    assert aws.instances()[instance]["state"] == "running"
    assert aws.call("DescribeRouteTables")[1] == before
    assert "<sourceDestCheck>true" in aws.call("DescribeInstances")[1]
