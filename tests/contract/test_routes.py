"""What every cloud promises about routes to instances."""

from __future__ import annotations

from typing import Any

import pytest

from kip.cloud.errors import CloudError, NotFound, Unreachable

Cloud = Any
CIDRS = (f"172.20.{number}.0/24" for number in range(250))


async def a_machine(cloud: Cloud) -> tuple[Any, Any]:
    """A running instance, and the table of its subnet (the VPC's main one)."""
    (instance,) = await cloud.compute.launch(await cloud.request())
    return instance, await table_of(cloud, instance.subnet_id)


async def table_of(cloud: Cloud, subnet_id: str) -> Any:
    vpc_id = (await cloud.network.subnet(subnet_id)).vpc_id
    (main,) = [table for table in await cloud.routing.route_tables([vpc_id]) if table.main]
    return main


async def test_a_vpc_has_a_main_table_with_its_local_route(cloud: Cloud) -> None:
    subnet = (await cloud.network.subnets())[0]
    main = await table_of(cloud, subnet.id)
    assert main.vpc_id == subnet.vpc_id
    local = main.route((await cloud.network.vpc_cidrs(subnet.vpc_id))[0])
    assert (local.to, local.network_interface_id, local.blackhole) == ("local", None, False)
    assert main in await cloud.routing.route_tables()
    assert await cloud.routing.route_tables(["vpc-0123456789abcdef0"]) == []


async def test_a_route_leads_to_an_interface_until_its_machine_is_gone(cloud: Cloud) -> None:
    cidr = next(CIDRS)
    instance, table = await a_machine(cloud)
    await cloud.routing.create_route(table.id, cidr, instance.network_interface_id)
    there = (await table_of(cloud, instance.subnet_id)).route(cidr)
    assert there.network_interface_id == instance.network_interface_id
    assert there.instance_id == instance.id
    assert not there.blackhole

    await cloud.compute.terminate([instance.id])
    left = (await table_of(cloud, instance.subnet_id)).route(cidr)
    assert left.network_interface_id == instance.network_interface_id
    assert left.blackhole

    await cloud.routing.delete_route(table.id, cidr)
    await cloud.routing.delete_route(table.id, cidr)
    assert (await table_of(cloud, instance.subnet_id)).route(cidr) is None


async def test_a_range_has_one_route_wherever_it_leads(cloud: Cloud) -> None:
    cidr = next(CIDRS)
    one, table = await a_machine(cloud)
    other, _ = await a_machine(cloud)
    await cloud.routing.create_route(table.id, cidr, one.network_interface_id)
    local = (await cloud.network.vpc_cidrs(table.vpc_id))[0]
    for taken in (cidr, local):
        with pytest.raises(CloudError) as caught:
            await cloud.routing.create_route(table.id, taken, other.network_interface_id)
        assert caught.value.code == "RouteAlreadyExists"
    await cloud.routing.delete_route(table.id, cidr)


async def test_a_route_to_nothing_is_refused(cloud: Cloud) -> None:
    _, table = await a_machine(cloud)
    with pytest.raises(NotFound):
        await cloud.routing.create_route(table.id, next(CIDRS), "eni-0123456789abcdef0")
    await cloud.routing.delete_route("rtb-0123456789abcdef0", next(CIDRS))


async def test_an_answer_that_was_lost_is_found_in_the_table(cloud: Cloud) -> None:
    cidr = next(CIDRS)
    instance, table = await a_machine(cloud)
    cloud.troubles.lose_answer("CreateRoute")
    with pytest.raises(Unreachable):
        await cloud.routing.create_route(table.id, cidr, instance.network_interface_id)
    assert (await table_of(cloud, instance.subnet_id)).route(cidr) is not None
    await cloud.routing.delete_route(table.id, cidr)


async def test_an_instance_may_pass_what_is_not_its_own(cloud: Cloud) -> None:
    instance, _ = await a_machine(cloud)
    assert not await cloud.passes_foreign_traffic(instance.id)
    await cloud.routing.pass_foreign_traffic(instance.id)
    await cloud.routing.pass_foreign_traffic(instance.id)
    assert await cloud.passes_foreign_traffic(instance.id)
    with pytest.raises(NotFound):
        await cloud.routing.pass_foreign_traffic("i-0123456789abcdef0")
