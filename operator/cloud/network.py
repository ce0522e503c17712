"""Where cells are put: subnets and the security group of a VPC."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kip.cloud.base import DEFAULT_VPC, SecurityGroup, Subnet
from kip.cloud.errors import NotFound
from kip.cloud.sdk import Answer, Ec2Sdk, filters
from kip.cloud.securitygroup import CellSecurityGroups


class Ec2Network:
    """`kip.cloud.base.Network` over EC2."""

    def __init__(self, sdk: Ec2Sdk) -> None:
        self._sdk = sdk
        self._groups = CellSecurityGroups(sdk)

    async def subnet(self, subnet_id: str) -> Subnet:
        found = await self._sdk.describe_subnets(filters({"subnet-id": subnet_id}))
        if not found:
            raise NotFound(f"there is no subnet {subnet_id}", action="DescribeSubnets")
        return to_subnet(found[0])

    async def subnets(
        self, *, vpc_id: str | None = None, tags: Mapping[str, str] | None = None
    ) -> list[Subnet]:
        if vpc_id == DEFAULT_VPC or (vpc_id is None and not tags):
            vpc_id = await self._default_vpc()
        found = await self._sdk.describe_subnets(filters({"vpc-id": vpc_id} if vpc_id else {}, tags))
        return sorted(map(to_subnet, found), key=lambda subnet: subnet.id)

    async def vpc_cidrs(self, vpc_id: str) -> tuple[str, ...]:
        found = await self._sdk.describe_vpcs(filters({"vpc-id": vpc_id}))
        if not found:
            raise NotFound(f"there is no VPC {vpc_id}", action="DescribeVpcs")
        return vpc_ranges(found[0])

    async def ensure_cell_security_group(
        self, *, cluster: str, vpc_id: str, extra_cidrs: Collection[str] = ()
    ) -> str:
        cidrs = (*await self.vpc_cidrs(vpc_id), *extra_cidrs)
        return await self._groups.ensure(cluster, vpc_id, cidrs)

    async def cell_security_groups(self, cluster: str) -> list[SecurityGroup]:
        return await self._groups.all(cluster)

    async def groups_naming(self, group_id: str) -> list[SecurityGroup]:
        return await self._groups.naming(group_id)

    async def delete_security_group(self, group_id: str) -> None:
        await self._groups.delete(group_id)

    async def ping(self) -> None:
        await self._sdk.describe_availability_zones()

    async def _default_vpc(self) -> str:
        found = await self._sdk.describe_vpcs(filters({"is-default": "true"}))
        if not found:
            raise NotFound("the region has no default VPC: name one", action="DescribeVpcs")
        vpc_id: str = found[0]["VpcId"]
        return vpc_id


def vpc_ranges(answer: Answer) -> tuple[str, ...]:
    """A VPC's IPv4 ranges, the primary one first."""
    associated = [
        association["CidrBlock"]
        for association in answer.get("CidrBlockAssociationSet", [])
        if association.get("CidrBlockState", {}).get("State", "associated") == "associated"
    ]
    return tuple(dict.fromkeys((answer["CidrBlock"], *associated)))


def to_subnet(answer: Answer) -> Subnet:
    """A subnet from AWS's description of it."""
    return Subnet(
        id=answer["SubnetId"],
        vpc_id=answer["VpcId"],
        cidr=answer["CidrBlock"],
        zone=answer["AvailabilityZone"],
        zone_id=answer.get("AvailabilityZoneId", ""),
        free_addresses=answer["AvailableIpAddressCount"],
        public=answer.get("MapPublicIpOnLaunch", False),
    )
