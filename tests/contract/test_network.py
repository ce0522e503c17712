"""What every cloud promises about the places for cells."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from kip.cloud.errors import CloudError, NotAuthorized, NotFound, Unreachable

Cloud = Any


async def test_the_default_vpc_has_subnets(cloud: Cloud) -> None:
    found = await cloud.network.subnets()
    assert found
    assert [s.id for s in found] == sorted(s.id for s in found)
    for subnet in found:
        assert subnet.zone.startswith("us-east-1")
        assert subnet.free_addresses > 0
        assert (await cloud.network.subnet(subnet.id)).cidr == subnet.cidr
        assert subnet in await cloud.network.subnets(vpc_id=subnet.vpc_id)


async def test_the_default_vpc_can_be_named_and_narrowed_by_tags(cloud: Cloud) -> None:
    assert await cloud.network.subnets(vpc_id="default") == await cloud.network.subnets()
    assert await cloud.network.subnets(vpc_id="default", tags={"no-such-tag": "x"}) == []


async def test_a_subnet_lies_in_its_vpc(cloud: Cloud) -> None:
    subnet = (await cloud.network.subnets())[0]
    ranges = [ipaddress.ip_network(cidr) for cidr in await cloud.network.vpc_cidrs(subnet.vpc_id)]
    assert any(ipaddress.ip_network(subnet.cidr).subnet_of(cidr) for cidr in ranges)


async def test_what_is_not_there_is_said_to_be_missing(cloud: Cloud) -> None:
    with pytest.raises(NotFound, match="subnet-0123456789abcdef0"):
        await cloud.network.subnet("subnet-0123456789abcdef0")
    with pytest.raises(NotFound, match="vpc-0123456789abcdef0"):
        await cloud.network.vpc_cidrs("vpc-0123456789abcdef0")
    assert await cloud.network.subnets(tags={"no-such-tag": "x"}) == []


async def test_a_cluster_has_one_security_group(cloud: Cloud) -> None:
    vpc_id = (await cloud.network.subnets())[0].vpc_id
    one = await cloud.network.ensure_cell_security_group(cluster="one", vpc_id=vpc_id)
    again = await cloud.network.ensure_cell_security_group(
        cluster="one", vpc_id=vpc_id, extra_cidrs=("192.168.0.0/16",)
    )
    two = await cloud.network.ensure_cell_security_group(cluster="two", vpc_id=vpc_id)
    assert one == again != two


async def test_a_missing_permission_is_named(cloud: Cloud) -> None:
    vpc_id = (await cloud.network.subnets())[0].vpc_id
    cloud.troubles.fail("CreateSecurityGroup", "UnauthorizedOperation")
    with pytest.raises(NotAuthorized, match="ec2:CreateSecurityGroup"):
        await cloud.network.ensure_cell_security_group(cluster="forbidden", vpc_id=vpc_id)


async def test_a_security_group_whose_creation_was_not_answered_is_found_again(cloud: Cloud) -> None:
    vpc_id = (await cloud.network.subnets())[0].vpc_id
    cloud.troubles.lose_answer("CreateSecurityGroup")
    with pytest.raises(Unreachable):
        await cloud.network.ensure_cell_security_group(cluster="lost", vpc_id=vpc_id)

    first = await cloud.network.ensure_cell_security_group(cluster="lost", vpc_id=vpc_id)
    assert first == await cloud.network.ensure_cell_security_group(cluster="lost", vpc_id=vpc_id)


async def test_a_group_lets_in_ssh_and_the_pods_of_the_ranges_that_are_wanted_now(cloud: Cloud) -> None:
    vpc_id = (await cloud.network.subnets())[0].vpc_id
    own = await cloud.network.vpc_cidrs(vpc_id)

    async def ranges(*extra: str) -> dict[tuple[str, int | None], set[str]]:
        group = await cloud.network.ensure_cell_security_group(
            cluster="ranges", vpc_id=vpc_id, extra_cidrs=extra
        )
        found: dict[tuple[str, int | None], set[str]] = {}
        for rule in await cloud.ingress(group):
            found.setdefault((rule.protocol, rule.ports[0] if rule.ports else None), set()).add(rule.cidr)
        return found

    for extra in (("192.168.0.0/16", "172.16.0.0/12"), ("172.16.0.0/12",), ()):
        wanted = {*own, *extra}
        assert await ranges(*extra) == {("tcp", 22): wanted, ("-1", None): wanted}


async def test_a_rule_that_may_not_be_revoked_stays_and_nothing_fails(cloud: Cloud) -> None:
    vpc_id = (await cloud.network.subnets())[0].vpc_id
    place = {"cluster": "no-revoking", "vpc_id": vpc_id}
    before = await cloud.network.ensure_cell_security_group(**place, extra_cidrs=("192.168.0.0/16",))
    cloud.troubles.fail("RevokeSecurityGroupIngress", "UnauthorizedOperation")
    assert await cloud.network.ensure_cell_security_group(**place) == before
    assert "192.168.0.0/16" in {rule.cidr for rule in await cloud.ingress(before)}
    await cloud.network.ensure_cell_security_group(**place)
    assert "192.168.0.0/16" not in {rule.cidr for rule in await cloud.ingress(before)}


async def test_the_groups_of_a_cluster_are_found_and_deleted_when_nothing_uses_them(cloud: Cloud) -> None:
    vpc_id = (await cloud.network.subnets())[0].vpc_id
    assert await cloud.network.cell_security_groups("going") == []
    group = await cloud.network.ensure_cell_security_group(cluster="going", vpc_id=vpc_id)
    (found,) = await cloud.network.cell_security_groups("going")
    assert (found.id, found.vpc_id) == (group, vpc_id)

    (instance,) = await cloud.compute.launch(await cloud.request(security_group_ids=(group,)))
    with pytest.raises(CloudError) as caught:
        await cloud.network.delete_security_group(group)
    assert caught.value.code == "DependencyViolation"

    await cloud.compute.terminate([instance.id])
    await cloud.network.delete_security_group(group)
    await cloud.network.delete_security_group(group)
    assert await cloud.network.cell_security_groups("going") == []


async def test_ping_tells_whether_aws_answers(cloud: Cloud) -> None:
    await cloud.network.ping()
    cloud.troubles.lose_answer("DescribeAvailabilityZones")
    with pytest.raises(Unreachable):
        await cloud.network.ping()
    cloud.troubles.fail("DescribeAvailabilityZones", "AuthFailure")
    with pytest.raises(NotAuthorized):
        await cloud.network.ping()
