"""Cells go where the file says, else where Kip runs, else nowhere."""

from __future__ import annotations

import pytest

from kip.app.cluster import CannotStart
from kip.app.location import Location, locate
from kip.cloud.metadata import Whereabouts
from kip.config import Aws

HERE = Whereabouts(region="eu-west-1", vpc_id="vpc-1", subnet_id="subnet-1")


async def here() -> Whereabouts | None:
    return HERE


async def nowhere() -> Whereabouts | None:
    return None


async def never() -> Whereabouts | None:
    raise AssertionError("the metadata service was asked though everything is configured")


async def test_a_complete_file_needs_no_metadata_service():
    aws = Aws(region="us-east-1", subnet_ids=("subnet-9",))
    assert await locate(aws, never) == Location("us-east-1", ("subnet-9",), None)


async def test_tags_of_subnets_are_a_place():
    aws = Aws(region="us-east-1", subnet_tags={"kip": "yes"})
    assert await locate(aws, never) == Location("us-east-1", (), None, {"kip": "yes"})
    assert await locate(Aws(subnet_tags={"kip": "yes"}), here) == Location(
        "eu-west-1", (), None, {"kip": "yes"}
    )


async def test_the_rest_is_taken_from_where_kip_runs():
    assert await locate(Aws(), here) == Location("eu-west-1", ("subnet-1",), "vpc-1")
    assert await locate(Aws(vpc_id="vpc-2"), here) == Location("eu-west-1", (), "vpc-2")


async def test_without_metadata_the_missing_keys_are_named():
    with pytest.raises(CannotStart, match=r"set cloud\.aws\.region .* and cloud\.aws\.subnetID"):
        await locate(Aws(), nowhere)
    with pytest.raises(CannotStart, match=r"set cloud\.aws\.subnetID or cloud\.aws\.vpcID"):
        await locate(Aws(region="us-east-1"), nowhere)


async def test_it_is_said_where_each_installer_has_them():
    with pytest.raises(CannotStart) as raised:
        await locate(Aws(region="us-east-1"), nowhere)
    assert "deploy.sh: SUBNET_IDS or VPC_ID, Helm: subnetIDs or vpcID" in str(raised.value)
    assert "USE_REGION" not in str(raised.value)


async def test_another_region_is_not_combined_with_the_subnet_of_this_one():
    with pytest.raises(CannotStart, match="us-east-1, but Kip runs in eu-west-1"):
        await locate(Aws(region="us-east-1"), here)
