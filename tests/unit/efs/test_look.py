"""Which VPC and which subnets are meant."""

from __future__ import annotations

from typing import Any

import pytest

from kip.cloud.errors import NotFound
from kip.efs.look import PlaceUnknown, Where, subnets, vpc_of

World = Any


async def ids(world: World, **where: Any) -> list[str]:
    return [subnet.id for subnet in await subnets(world.cloud, Where(**where))]


async def test_without_names_all_of_the_vpc_with_those_of_the_cells_first(world: World) -> None:
    both = ["subnet-fake-a", "subnet-fake-b"]
    assert await ids(world, vpc_id="vpc-fake") == both
    assert await ids(world, vpc_id="default") == both
    assert await ids(world, cells_subnets=("subnet-fake-b",)) == both[::-1]
    assert await ids(world, cells_tags={"kip-local": "true"}) == both


async def test_more_free_addresses_come_first(world: World) -> None:
    world.cloud._pools["subnet-fake-a"].take(5)
    assert await ids(world, vpc_id="vpc-fake") == ["subnet-fake-b", "subnet-fake-a"]


async def test_named_ones_are_the_only_ones(world: World) -> None:
    twice = ("subnet-fake-b", "subnet-fake-b")
    assert await ids(world, vpc_id="vpc-fake", named_subnets=twice) == ["subnet-fake-b"]
    with pytest.raises(NotFound):
        await ids(world, named_subnets=("subnet-none",))


async def test_a_place_that_nothing_names_is_an_error_that_says_what_would(world: World) -> None:
    with pytest.raises(PlaceUnknown, match="--vpc or --subnet"):
        await ids(world)


async def test_the_vpc_is_the_one_that_is_said_or_that_of_the_subnets(world: World) -> None:
    found = await subnets(world.cloud, Where(vpc_id="default"))
    assert vpc_of(found, Where(vpc_id="default")) == "vpc-fake"
    assert vpc_of(found, Where(vpc_id="vpc-7")) == "vpc-7"
    assert vpc_of(found, Where()) == "vpc-fake"
