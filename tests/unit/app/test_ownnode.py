"""A pod without the metadata service finds out from its Node where it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from kip.app import ownnode
from kip.cloud.errors import NotAuthorized
from kip.cloud.metadata import Whereabouts
from kip.kube.errors import Unavailable
from kip.kube.fake import FakeApi

NODE = "ip-10-0-0-1.ec2.internal"
INSTANCES = {("us-west-2", "i-0abc"): {"SubnetId": "subnet-1", "VpcId": "vpc-1"}}
HERE = Whereabouts(region="us-west-2", vpc_id="vpc-1", subnet_id="subnet-1")


async def describe(region: str, instance_id: str) -> Mapping[str, Any] | None:
    return INSTANCES.get((region, instance_id))


async def look(api: FakeApi, *, region: str | None = None) -> Whereabouts | None:
    return await ownnode.whereabouts(api, NODE, describe, region=region)


async def with_node(provider_id: str | None, *, region: str | None = "us-west-2") -> FakeApi:
    api = FakeApi()
    labels = {"topology.kubernetes.io/region": region} if region else {}
    spec = {"providerID": provider_id} if provider_id else {}
    await api.create("/api/v1/nodes", {"metadata": {"name": NODE, "labels": labels}, "spec": spec})
    return api


async def test_its_instance_is_looked_up_in_the_nodes_own_region():
    api = await with_node("aws:///us-west-2a/i-0abc")
    assert await look(api, region="eu-west-1") == HERE


async def test_without_the_label_the_configured_region_is_tried():
    api = await with_node("aws:///us-west-2a/i-0abc", region=None)
    assert await look(api, region="us-west-2") == HERE
    assert await look(api) is None


@pytest.mark.parametrize(
    "provider_id",
    [
        None,
        "kip://blue/kip-provider-0",
        "aws:///us-west-2a/0123/fargate-ip-10-0-0-1",
        "aws:///us-west-2a/i-0dead",
    ],
)
async def test_what_is_no_instance_that_is_known_says_nothing(provider_id):
    assert await look(await with_node(provider_id)) is None


async def test_a_node_that_is_not_there_or_not_named_says_nothing():
    api = FakeApi()
    assert await look(api) is None
    assert await ownnode.whereabouts(api, None, describe, region="us-west-2") is None
    assert len(api.requests) == 1


async def test_aws_may_refuse():
    async def refuse(region: str, instance_id: str) -> Mapping[str, Any] | None:
        raise NotAuthorized("no credentials", action="DescribeInstances")

    api = await with_node("aws:///us-west-2a/i-0abc")
    assert await ownnode.whereabouts(api, NODE, refuse, region=None) is None


async def test_an_api_server_that_is_away_can_be_asked_again():
    api = await with_node("aws:///us-west-2a/i-0abc")
    api.away = True
    with pytest.raises(Unavailable):
        await look(api)
