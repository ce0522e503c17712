"""What every cloud promises about machines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from kip.cloud.base import LIVE_STATES, MAX_USER_DATA, Instance
from kip.cloud.errors import (
    CloudError,
    InsufficientCapacity,
    InvalidRequest,
    NotAuthorized,
    NotFound,
    QuotaExceeded,
    Throttled,
    TokenConflict,
    Unreachable,
)

# The module's fixture lives in conftest.py, whose types a test cannot import in importlib mode.
Cloud = Any

UNKNOWN_INSTANCE = "i-0123456789abcdef0"


async def until(
    look: Callable[[], Awaitable[list[Instance]]], met: Callable[[list[Instance]], bool], within: float = 5.0
) -> list[Instance]:
    """What `look` finds, once it is as expected."""
    deadline = time.monotonic() + within
    while True:
        seen = await look()
        if met(seen):
            return seen
        assert time.monotonic() < deadline, f"after {within} s still {seen}"
        await asyncio.sleep(0.02)


async def test_a_launch_tells_everything_about_its_instances(cloud: Cloud) -> None:
    request = await cloud.request(count=3)
    launched = await cloud.compute.launch(request)

    assert [instance.launch_index for instance in launched] == [0, 1, 2]
    assert len({instance.id for instance in launched}) == 3
    for instance in launched:
        assert instance.state in ("pending", "running")
        assert instance.instance_type == "t3.micro"
        assert instance.zone == "us-east-1a"
        assert instance.subnet_id == request.subnet_id
        assert instance.client_token == request.client_token
        assert instance.tags == request.tags
        assert instance.market == "on-demand"
        assert instance.launch_time.tzinfo is not None


async def test_every_address_is_given_once(cloud: Cloud) -> None:
    requests = [await cloud.request(count=4) for _ in range(2)]
    instances = [i for request in requests for i in await cloud.compute.launch(request)]

    addresses = [a for i in instances for a in (i.private_ip, *i.secondary_ips)]
    assert len(addresses) == len(set(addresses)) == 16
    assert all(i.pod_ip == i.secondary_ips[0] and i.pod_ip != i.private_ip for i in instances)


async def test_secondary_addresses_are_as_many_as_asked_for(cloud: Cloud) -> None:
    (none,) = await cloud.compute.launch(await cloud.request(secondary_private_ips=0))
    (three,) = await cloud.compute.launch(await cloud.request(secondary_private_ips=3))

    assert none.pod_ip is None
    assert len(three.secondary_ips) == 3


async def test_spot_is_told_apart(cloud: Cloud) -> None:
    (instance,) = await cloud.compute.launch(await cloud.request(market="spot"))
    assert instance.market == "spot"


async def test_dedicated_hardware_is_told_apart_and_belongs_to_the_token(cloud: Cloud) -> None:
    request = await cloud.request(instance_type="m5.large", dedicated=True)
    (instance,) = await cloud.compute.launch(request)
    assert (instance.dedicated, instance.launch_type) == (True, "dedicated")
    (shown,) = await cloud.compute.describe(tags=request.tags)
    assert shown.launch_type == "dedicated"
    (shared,) = await cloud.compute.launch(await cloud.request())
    assert (shared.dedicated, shared.launch_type) == (False, "on-demand")

    with pytest.raises(TokenConflict):
        await cloud.compute.launch(replace(request, dedicated=False))


async def test_a_root_volume_can_be_asked_for(cloud: Cloud) -> None:
    (instance,) = await cloud.compute.launch(await cloud.request(root_volume_gib=30))
    assert await cloud.compute.describe_ids([instance.id]) != []


async def test_the_same_token_gives_the_same_instances(cloud: Cloud) -> None:
    request = await cloud.request(count=3)
    first = await cloud.compute.launch(request)
    again = await cloud.compute.launch(request)

    assert [i.id for i in again] == [i.id for i in first]
    assert len(await cloud.compute.describe(tags=request.tags)) == 3


async def test_a_token_with_other_parameters_is_refused(cloud: Cloud) -> None:
    request = await cloud.request()
    await cloud.compute.launch(request)

    with pytest.raises(TokenConflict):
        await cloud.compute.launch(replace(request, instance_type="t3.small"))
    with pytest.raises(TokenConflict):
        await cloud.compute.launch(replace(request, count=2))
    assert len(await cloud.compute.describe(tags=request.tags)) == 1


async def test_a_token_ends_with_its_instances(cloud: Cloud) -> None:
    request = await cloud.request(count=2)
    launched = await cloud.compute.launch(request)
    await cloud.compute.terminate([i.id for i in launched])

    with pytest.raises(TokenConflict):
        await cloud.compute.launch(request)


async def test_a_token_outlives_some_of_its_instances(cloud: Cloud) -> None:
    request = await cloud.request(count=2)
    first, second = await cloud.compute.launch(request)
    await cloud.compute.terminate([first.id])

    again = {i.id: i.gone for i in await cloud.compute.launch(request)}
    assert again == {first.id: True, second.id: False}


async def test_a_lost_answer_is_repeated_without_a_second_launch(cloud: Cloud) -> None:
    request = await cloud.request(count=2)
    cloud.troubles.lose_answer("RunInstances")
    with pytest.raises(Unreachable):
        await cloud.compute.launch(request)

    there = await cloud.compute.describe(tags=request.tags)
    again = await cloud.compute.launch(request)
    assert sorted(i.id for i in again) == sorted(i.id for i in there)
    assert len(again) == 2


async def test_a_failed_call_leaves_its_token_unused(cloud: Cloud) -> None:
    request = await cloud.request()
    cloud.troubles.fail("RunInstances", "InsufficientInstanceCapacity")
    with pytest.raises(InsufficientCapacity):
        await cloud.compute.launch(request)

    assert len(await cloud.compute.launch(replace(request, instance_type="t3.small"))) == 1


async def test_a_launch_may_get_fewer_than_it_asks_for(cloud: Cloud) -> None:
    cloud.troubles.limit_capacity(2, "t3.medium")
    launched = await cloud.compute.launch(await cloud.request(count=5, instance_type="t3.medium"))
    assert [i.launch_index for i in launched] == [0, 1]


async def test_no_capacity_at_all_is_an_error_and_launches_nothing(cloud: Cloud) -> None:
    cloud.troubles.limit_capacity(0, "t3.medium")
    request = await cloud.request(count=5, instance_type="t3.medium")
    with pytest.raises(InsufficientCapacity):
        await cloud.compute.launch(request)
    assert await cloud.compute.describe(tags=request.tags) == []


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        ("UnauthorizedOperation", NotAuthorized),
        ("RequestLimitExceeded", Throttled),
        ("VcpuLimitExceeded", QuotaExceeded),
        ("InternalError", Unreachable),
        ("InvalidParameterValue", InvalidRequest),
    ],
)
async def test_an_error_of_aws_gets_its_meaning(cloud: Cloud, code: str, meaning: type[CloudError]) -> None:
    request = await cloud.request()
    cloud.troubles.fail("RunInstances", code)
    with pytest.raises(meaning) as caught:
        await cloud.compute.launch(request)

    assert caught.value.code == code
    assert caught.value.action == "RunInstances"
    assert await cloud.compute.describe(tags=request.tags) == []


async def test_user_data_that_is_too_large_is_refused_with_its_size(cloud: Cloud) -> None:
    await cloud.compute.launch(await cloud.request(user_data=b"x" * MAX_USER_DATA))
    with pytest.raises(InvalidRequest, match=str(MAX_USER_DATA + 1)):
        await cloud.compute.launch(await cloud.request(user_data=b"x" * (MAX_USER_DATA + 1)))


async def test_what_a_launch_names_must_exist(cloud: Cloud) -> None:
    with pytest.raises(NotFound):
        await cloud.compute.launch(await cloud.request(image_id="ami-0123456789abcdef0"))
    with pytest.raises(NotFound):
        await cloud.compute.launch(await cloud.request(subnet_id="subnet-0123456789abcdef0"))
    with pytest.raises(NotFound):
        await cloud.compute.launch(await cloud.request(security_group_ids=("sg-0123456789abcdef0",)))


async def test_an_instance_type_that_is_none_is_refused_by_name(cloud: Cloud) -> None:
    with pytest.raises(InvalidRequest, match=r"t3\.gigantic"):
        await cloud.compute.launch(await cloud.request(instance_type="t3.gigantic"))


async def test_an_instance_is_pending_until_it_has_booted(cloud: Cloud) -> None:
    cloud.troubles.set_boot_delay(0.3)
    (instance,) = await cloud.compute.launch(await cloud.request())
    assert instance.state == "pending"

    async def look() -> list[Instance]:
        found: list[Instance] = await cloud.compute.describe_ids([instance.id])
        return found

    await until(look, lambda seen: [i.state for i in seen] == ["running"])


async def test_describe_finds_by_all_tags_and_states(cloud: Cloud) -> None:
    request = await cloud.request(count=3)
    request = replace(request, tags={**request.tags, "cell": "one"})
    launched = await cloud.compute.launch(request)
    await cloud.compute.terminate([launched[0].id])

    everything = await cloud.compute.describe(tags=request.tags)
    alive = await cloud.compute.describe(tags=request.tags, states=LIVE_STATES)
    assert {i.id for i in everything} == {i.id for i in launched}
    assert {i.id for i in alive} == {i.id for i in launched[1:]}
    assert await cloud.compute.describe(tags={**request.tags, "cell": "two"}) == []


async def test_describe_ids_leaves_out_what_is_unknown(cloud: Cloud) -> None:
    (instance,) = await cloud.compute.launch(await cloud.request())
    found = await cloud.compute.describe_ids([UNKNOWN_INSTANCE, instance.id])
    assert [i.id for i in found] == [instance.id]
    assert await cloud.compute.describe_ids([]) == []


async def test_tags_are_added_and_replaced(cloud: Cloud) -> None:
    request = await cloud.request(count=2)
    launched = await cloud.compute.launch(request)
    ids = [i.id for i in launched]
    await cloud.compute.tag(ids, {"team": "shop"})
    await cloud.compute.tag(ids[:1], {"team": "stock", "Name": "one"})
    one, other = await cloud.compute.describe_ids(ids)
    assert one.tags == {**request.tags, "team": "stock", "Name": "one"}
    assert other.tags == {**request.tags, "team": "shop"}
    with pytest.raises(CloudError):
        await cloud.compute.tag([UNKNOWN_INSTANCE, ids[0]], {"team": "none"})


async def test_terminate_is_final_and_can_be_repeated(cloud: Cloud) -> None:
    launched = await cloud.compute.launch(await cloud.request(count=2))
    ids = [i.id for i in launched]
    await cloud.compute.terminate([*ids, UNKNOWN_INSTANCE])
    await cloud.compute.terminate(ids)
    await cloud.compute.terminate([])

    for instance in await cloud.compute.describe_ids(ids):
        assert instance.gone
        assert instance.private_ip is None
        assert instance.pod_ip is None
        assert instance.state_reason == "Client.UserInitiatedShutdown: User initiated shutdown"


async def test_termination_gives_the_addresses_back(cloud: Cloud) -> None:
    subnet, _ = await cloud.place()
    free = (await cloud.network.subnet(subnet.id)).free_addresses
    launched = await cloud.compute.launch(await cloud.request(count=3))
    assert (await cloud.network.subnet(subnet.id)).free_addresses == free - 6

    await cloud.compute.terminate([i.id for i in launched])
    assert (await cloud.network.subnet(subnet.id)).free_addresses == free


async def test_addresses_are_not_reused_while_others_are_fresh(cloud: Cloud) -> None:
    (first,) = await cloud.compute.launch(await cloud.request())
    await cloud.compute.terminate([first.id])
    (second,) = await cloud.compute.launch(await cloud.request())
    assert {second.private_ip, second.pod_ip}.isdisjoint({first.private_ip, first.pod_ip})


async def test_many_at_once_each_get_their_own_answer(cloud: Cloud) -> None:
    launched = await cloud.compute.launch(await cloud.request(count=10))
    found = await asyncio.gather(*(cloud.compute.describe_ids([i.id]) for i in launched))
    assert [[i.id for i in one] for one in found] == [[i.id] for i in launched]

    await asyncio.gather(*(cloud.compute.terminate([i.id]) for i in launched))
    assert all(i.gone for i in await cloud.compute.describe_ids([i.id for i in launched]))
