"""Where cells are put: subnets and the security group of a VPC."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping

from kip.cloud.base import Subnet
from kip.cloud.errors import CloudError, NotFound
from kip.cloud.sdk import Answer, Ec2Sdk, filters

SSH = 22


class Ec2Network:
    """`kip.cloud.base.Network` over EC2."""

    def __init__(self, sdk: Ec2Sdk) -> None:
        self._sdk = sdk

    async def subnet(self, subnet_id: str) -> Subnet:
        found = await self._sdk.describe_subnets(filters({"subnet-id": subnet_id}))
        if not found:
            raise NotFound(f"there is no subnet {subnet_id}", action="DescribeSubnets")
        return to_subnet(found[0])

    async def subnets(
        self, *, vpc_id: str | None = None, tags: Mapping[str, str] | None = None
    ) -> list[Subnet]:
        if vpc_id is None and not tags:
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
        name = security_group_name(cluster)
        cidrs = (*await self.vpc_cidrs(vpc_id), *extra_cidrs)
        group = await self._security_group(name, vpc_id) or await self._create_group(name, cluster, vpc_id)
        group_id: str = group["GroupId"]
        try:
            await self._add_missing_rules(group, cidrs)
        except CloudError as error:
            if error.code != "InvalidPermission.Duplicate":
                raise
            # Another process adds them at this moment. AWS has refused all of ours for one that is there: look again.
            group = await self._security_group(name, vpc_id) or group
            await self._add_missing_rules(group, cidrs)
        return group_id

    async def ping(self) -> None:
        await self._sdk.describe_availability_zones()

    async def _default_vpc(self) -> str:
        found = await self._sdk.describe_vpcs(filters({"is-default": "true"}))
        if not found:
            raise NotFound("the region has no default VPC: name one", action="DescribeVpcs")
        vpc_id: str = found[0]["VpcId"]
        return vpc_id

    async def _security_group(self, name: str, vpc_id: str) -> Answer | None:
        found = await self._sdk.describe_security_groups(filters({"group-name": name, "vpc-id": vpc_id}))
        return found[0] if found else None

    async def _create_group(self, name: str, cluster: str, vpc_id: str) -> Answer:
        tags = [{"Key": "Name", "Value": name}, {"Key": "kip.elotl.co/cluster", "Value": cluster}]
        try:
            return await self._sdk.create_security_group(
                GroupName=name,
                Description=f"Cells of the Kip cluster {cluster}",
                VpcId=vpc_id,
                TagSpecifications=[{"ResourceType": "security-group", "Tags": tags}],
            )
        except CloudError as error:
            # Another process was faster, or the answer to our own call was lost.
            if error.code == "InvalidGroup.Duplicate" and (group := await self._security_group(name, vpc_id)):
                return group
            raise

    async def _add_missing_rules(self, group: Answer, cidrs: Collection[str]) -> None:
        if missing := missing_rules(group.get("IpPermissions", []), cidrs):
            await self._sdk.authorize_security_group_ingress(GroupId=group["GroupId"], IpPermissions=missing)


def security_group_name(cluster: str) -> str:
    """Name of the security group that a cluster's cells share."""
    return f"kip-{cluster}-cells"


def wanted_rules(cidrs: Collection[str]) -> list[Answer]:
    """Ingress of a cell. SSH stands alone, so that it stays when somebody narrows the rule for everything."""
    ranges = sorted({str(ipaddress.IPv4Network(cidr)) for cidr in cidrs})
    return [
        {"IpProtocol": "tcp", "FromPort": SSH, "ToPort": SSH, "IpRanges": _described(ranges, "kip: SSH")},
        {"IpProtocol": "-1", "IpRanges": _described(ranges, "kip: pods and nodes")},
    ]


def missing_rules(present: list[Answer], cidrs: Collection[str]) -> list[Answer]:
    """Those of `wanted_rules` that a group lacks."""
    have = {
        (_port_key(rule), ip_range["CidrIp"]) for rule in present for ip_range in rule.get("IpRanges", [])
    }
    missing = []
    for rule in wanted_rules(cidrs):
        lacking = [r for r in rule["IpRanges"] if (_port_key(rule), r["CidrIp"]) not in have]
        if lacking:
            missing.append({**rule, "IpRanges": lacking})
    return missing


def _described(ranges: list[str], description: str) -> list[Answer]:
    return [{"CidrIp": cidr, "Description": description} for cidr in ranges]


def _port_key(rule: Answer) -> tuple[str, int | None, int | None]:
    if rule["IpProtocol"] == "-1":
        return "-1", None, None
    return rule["IpProtocol"], rule.get("FromPort"), rule.get("ToPort")


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
