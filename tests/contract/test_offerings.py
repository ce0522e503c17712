"""What a cloud says of its types, zones and spot prices: the same of the fake and of EC2's API."""

from __future__ import annotations

from typing import Any

import pytest

from kip.cloud import catalogue
from kip.cloud.errors import NotAuthorized, Throttled

Cloud = Any


async def test_the_types_are_those_of_the_catalogue_but_for_price_and_zones(cloud: Cloud) -> None:
    """The catalogue is made of the same descriptions: what is read at run time must not differ from it."""
    found = await cloud.offerings.types()
    assert all(kind.usd_per_hour is None and kind.zone_ids is None for kind in found)
    assert catalogue.completed(found, "us-east-1") == catalogue.load("us-east-1")


async def test_zones_have_types(cloud: Cloud) -> None:
    found = await cloud.offerings.offered()
    assert {"us-east-1a", "us-east-1b"} <= found.keys()
    assert all("m5.large" in found[zone] for zone in ("us-east-1a", "us-east-1b"))


async def test_spot_prices_of_types_in_zones(cloud: Cloud) -> None:
    found = await cloud.offerings.spot_prices()
    on_demand = {kind.name: kind.usd_per_hour for kind in catalogue.load("us-east-1")}
    assert found["m5.large", "us-east-1a"] > 0
    assert all(0 < usd < (on_demand[name] or 0) for (name, _), usd in found.items())
    assert len({name for name, _ in found}) > 500


@pytest.mark.parametrize(
    ("method", "action"),
    [
        ("types", "DescribeInstanceTypes"),
        ("offered", "DescribeInstanceTypeOfferings"),
        ("spot_prices", "DescribeSpotPriceHistory"),
    ],
)
async def test_refusals_say_what_to_do(cloud: Cloud, method: str, action: str) -> None:
    cloud.troubles.fail(action, "UnauthorizedOperation")
    with pytest.raises(NotAuthorized) as caught:
        await getattr(cloud.offerings, method)()
    assert caught.value.permission == f"ec2:{action}"
    cloud.troubles.fail(action, "RequestLimitExceeded")
    with pytest.raises(Throttled):
        await getattr(cloud.offerings, method)()
