"""Harmless calls, one for each permission to look: about things that there are not, so that answers are short."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from kip.cloud.pricing import api_region
from kip.cloud.sdk import Ec2Sdk, Session, filters
from kip.doctor.asking import Asking
from kip.doctor.facts import Fact, Tried, Unanswered

Call = Callable[[], Awaitable[Any]]

_KIND = "t3.nano"
_NOT_AWS = Unanswered("not asked", "cloud.aws.endpointURL is set, and the price list is elsewhere")
_NO_PRICES = Unanswered("not asked", "AWS tells no prices for this region")


def reads(sdk: Ec2Sdk) -> Mapping[str, Call]:
    """Permission to a call that needs it."""
    return {
        "ec2:DescribeAvailabilityZones": sdk.describe_availability_zones,
        "ec2:DescribeImages": lambda: sdk.describe_images(
            Filters=filters({"name": "kip-doctor-looks-for-nothing"})
        ),
        "ec2:DescribeInstances": lambda: sdk.describe_instances(
            filters({"instance-id": "i-00000000000000000"})
        ),
        "ec2:DescribeRouteTables": lambda: sdk.describe_route_tables(
            filters({"route-table-id": "rtb-00000000"})
        ),
        "ec2:DescribeSecurityGroups": lambda: sdk.describe_security_groups(
            filters({"group-id": "sg-00000000"})
        ),
        "ec2:DescribeSubnets": lambda: sdk.describe_subnets(filters({"subnet-id": "subnet-00000000"})),
        "ec2:DescribeVpcs": lambda: sdk.describe_vpcs(filters({"vpc-id": "vpc-00000000"})),
        "ec2:DescribeInstanceTypes": lambda: sdk.describe_instance_types(InstanceTypes=[_KIND]),
        "ec2:DescribeInstanceTypeOfferings": lambda: sdk.describe_instance_type_offerings(
            Filters=filters({"instance-type": _KIND})
        ),
        "ec2:DescribeSpotPriceHistory": lambda: sdk.describe_spot_price_history(
            InstanceTypes=[_KIND], MaxResults=5
        ),
    }


async def registry_login(asking: Asking, session: Session, region: str) -> Fact[Tried]:
    """Whether there is a login to the region's registries; it is not kept."""

    async def login() -> Tried:
        async with session.ecr(region) as sdk:
            await sdk.get_authorization_token()
        return Tried()

    return await asking.ask(login)


async def price_list(asking: Asking, session: Session, region: str) -> Fact[Tried]:
    """Whether the price list may be read."""
    where = api_region(region)
    if where is None or session.elsewhere:
        return _NO_PRICES if where is None else _NOT_AWS

    async def products() -> Tried:
        async with session.pricing(where) as sdk:
            await sdk.get_products(ServiceCode="AmazonEC2", MaxResults=1)
        return Tried()

    return await asking.ask(products)
