"""What is asked of EC2, and what is made of its answers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from kip.cloud.base import MAX_USER_DATA, LaunchRequest
from kip.cloud.batching import Windows
from kip.cloud.ec2 import Ec2Compute, run_instances_parameters, to_instance
from kip.cloud.errors import (
    InvalidRequest,
    NotAuthorized,
    NotFound,
    Throttled,
    TokenConflict,
    Unreachable,
    from_code,
)

REQUEST = LaunchRequest(
    client_token="token",
    count=3,
    instance_type="m7i.large",
    image_id="ami-1",
    subnet_id="subnet-1",
    security_group_ids=("sg-1", "sg-2"),
    user_data=b"#!/bin/sh",
    tags={"b": "2", "a": "1"},
)

AT_ONCE = Windows(idle=0, longest=0, most_items=100)


def test_a_plain_launch() -> None:
    tags = [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]
    assert run_instances_parameters(REQUEST) == {
        "ClientToken": "token",
        "MinCount": 1,
        "MaxCount": 3,
        "ImageId": "ami-1",
        "InstanceType": "m7i.large",
        "NetworkInterfaces": [
            {
                "DeviceIndex": 0,
                "SubnetId": "subnet-1",
                "Groups": ["sg-1", "sg-2"],
                "DeleteOnTermination": True,
                "SecondaryPrivateIpAddressCount": 1,
            }
        ],
        "UserData": b"#!/bin/sh",
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        "InstanceInitiatedShutdownBehavior": "terminate",
        "TagSpecifications": [
            {"ResourceType": "instance", "Tags": tags},
            {"ResourceType": "volume", "Tags": tags},
            {"ResourceType": "network-interface", "Tags": tags},
        ],
    }


def test_equal_requests_have_equal_parameters_whatever_the_order_of_tags() -> None:
    other = replace(REQUEST, tags={"a": "1", "b": "2"})
    assert run_instances_parameters(other) == run_instances_parameters(REQUEST)


def test_a_launch_with_everything() -> None:
    request = replace(
        REQUEST,
        market="spot",
        root_volume_gib=40,
        root_device_name="/dev/sda1",
        instance_profile="cells",
        associate_public_ip=True,
        hop_limit=2,
        dedicated=True,
        secondary_private_ips=0,
    )
    parameters = run_instances_parameters(request)
    (volume,) = parameters["BlockDeviceMappings"]
    assert volume["DeviceName"] == "/dev/sda1"
    assert volume["Ebs"]["VolumeSize"] == 40
    assert volume["Ebs"]["Encrypted"] is True
    assert parameters["IamInstanceProfile"] == {"Name": "cells"}
    assert parameters["InstanceMarketOptions"]["MarketType"] == "spot"
    assert parameters["InstanceMarketOptions"]["SpotOptions"]["SpotInstanceType"] == "one-time"
    assert parameters["MetadataOptions"]["HttpPutResponseHopLimit"] == 2
    assert parameters["Placement"] == {"Tenancy": "dedicated"}
    (interface,) = parameters["NetworkInterfaces"]
    assert interface["AssociatePublicIpAddress"] is True
    assert "SecondaryPrivateIpAddressCount" not in interface


def test_an_instance_profile_may_be_an_arn() -> None:
    arn = "arn:aws:iam::123456789012:instance-profile/cells"
    assert run_instances_parameters(replace(REQUEST, instance_profile=arn))["IamInstanceProfile"] == {
        "Arn": arn
    }


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"count": 0}, "count must be at least 1, not 0"),
        ({"client_token": "x" * 65}, "1 to 64 ASCII characters"),
        ({"client_token": ""}, "1 to 64 ASCII characters"),
        ({"client_token": "tök"}, "1 to 64 ASCII characters"),
        ({"user_data": b"x" * (MAX_USER_DATA + 1)}, "user data has 16385 bytes, EC2 takes at most 16384"),
    ],
)
async def test_what_no_cloud_takes_is_not_even_asked(changes: dict[str, Any], says: str) -> None:
    compute = Ec2Compute(ScriptedSdk())
    with pytest.raises(InvalidRequest, match=says):
        await compute.launch(replace(REQUEST, **changes))


def test_the_first_interface_tells_the_pods_address() -> None:
    def interface(index: int, *addresses: str) -> dict[str, Any]:
        listed = [{"PrivateIpAddress": a, "Primary": a == addresses[0]} for a in addresses]
        return {"Attachment": {"DeviceIndex": index}, "PrivateIpAddresses": listed}

    answer = {
        **described("i-1"),
        "NetworkInterfaces": [interface(1, "10.0.1.4", "10.0.1.5"), interface(0, "10.0.0.4", "10.0.0.5")],
    }
    assert to_instance(answer).pod_ip == "10.0.0.5"


def test_a_bare_description_of_a_terminated_instance_is_enough() -> None:
    instance = to_instance(described("i-1", "terminated"))
    assert instance.gone
    assert instance.private_ip is instance.pod_ip is instance.subnet_id is instance.state_reason is None


async def test_terminate_leaves_out_the_ids_that_aws_does_not_know() -> None:
    sdk = ScriptedSdk(known={"i-1", "i-3"})
    await Ec2Compute(sdk, terminate=AT_ONCE).terminate(["i-1", "i-2", "i-3", "i-4"])
    assert sdk.terminated == [["i-1", "i-2", "i-3", "i-4"], ["i-1", "i-3"]]


async def test_terminate_does_not_ask_forever_about_an_id_that_aws_does_not_name() -> None:
    sdk = ScriptedSdk(known=set(), names_unknown=False)
    with pytest.raises(NotFound):
        await Ec2Compute(sdk, terminate=AT_ONCE).terminate(["i-1"])
    assert sdk.terminated == [["i-1"]]


async def test_one_that_cannot_be_terminated_keeps_back_no_other_and_only_its_own_caller_is_told() -> None:
    ids = [f"i-{n:x}" for n in range(64)]
    sdk = ScriptedSdk(known=set(ids), protected={"i-2a"})
    compute = Ec2Compute(sdk, terminate=AT_ONCE)
    answers = await asyncio.gather(*(compute.terminate([id_]) for id_ in ids), return_exceptions=True)
    assert [id_ for id_, answer in zip(ids, answers, strict=True) if answer is not None] == ["i-2a"]
    assert sdk.ended == set(ids) - {"i-2a"}
    assert len(sdk.terminated) == 1 + 2 * 6, "halves of 64"


async def test_what_was_refused_alone_is_asked_apart_from_then_on() -> None:
    sdk = ScriptedSdk(known={"i-1", "i-2", "i-3"}, protected={"i-2"})
    compute = Ec2Compute(sdk, terminate=AT_ONCE)
    await asyncio.gather(*(compute.terminate([i]) for i in ("i-1", "i-2")), return_exceptions=True)
    sdk.terminated.clear()
    await asyncio.gather(*(compute.terminate([i]) for i in ("i-2", "i-3")), return_exceptions=True)
    assert sdk.terminated == [["i-3"], ["i-2"]]
    sdk.protected.clear()
    await compute.terminate(["i-2"])
    assert sdk.ended == {"i-1", "i-2", "i-3"}


async def test_without_the_permission_the_search_ends_soon() -> None:
    ids = [f"i-{n:x}" for n in range(100)]
    sdk = ScriptedSdk(known=set(ids), protected=set(ids))
    with pytest.raises(NotAuthorized):
        await Ec2Compute(sdk, terminate=AT_ONCE).terminate(ids)
    assert len(sdk.terminated) == 41


@pytest.mark.parametrize("code", ["RequestLimitExceeded", "InternalError"])
async def test_what_passes_by_itself_is_not_searched_for(code: str) -> None:
    sdk = ScriptedSdk(known={"i-1", "i-2"}, fails_with=code)
    with pytest.raises((Throttled, Unreachable)):
        await Ec2Compute(sdk, terminate=AT_ONCE).terminate(["i-1", "i-2"])
    assert sdk.terminated == [["i-1", "i-2"]]


async def test_a_token_whose_instances_come_back_terminated_is_used_up() -> None:
    sdk = ScriptedSdk(run=[described("i-1", "terminated"), described("i-2", "shutting-down")])
    with pytest.raises(TokenConflict):
        await Ec2Compute(sdk).launch(REQUEST)


def described(id_: str, state: str = "running") -> dict[str, Any]:
    """The least that DescribeInstances says about an instance."""
    return {
        "InstanceId": id_,
        "State": {"Name": state},
        "InstanceType": "t3.micro",
        "LaunchTime": datetime(2026, 1, 1, tzinfo=UTC),
    }


class ScriptedSdk:
    """Answers as told."""

    def __init__(
        self,
        *,
        known: set[str] = frozenset(),
        protected: set[str] = frozenset(),
        names_unknown: bool = True,
        fails_with: str | None = None,
        run: list[Any] | None = None,
    ) -> None:
        self._known, self._names_unknown, self._run = known, names_unknown, run
        self._fails_with = fails_with
        self.protected = set(protected)
        self.terminated: list[list[str]] = []
        self.ended: set[str] = set()

    async def run_instances(self, **params: Any) -> dict[str, Any]:
        assert self._run is not None, "not to be called"
        return {"Instances": self._run}

    async def terminate_instances(self, ids: list[str]) -> None:
        self.terminated.append(ids)
        if self._fails_with:
            raise from_code("TerminateInstances", self._fails_with, "later")
        unknown = [id_ for id_ in ids if id_ not in self._known]
        if unknown:
            named = ", ".join(unknown) if self._names_unknown else "?"
            message = f"The instance IDs '{named}' do not exist"
            raise from_code("TerminateInstances", "InvalidInstanceID.NotFound", message)
        if self.protected & set(ids):
            raise from_code("TerminateInstances", "UnauthorizedOperation", "not this one")
        self.ended.update(ids)
