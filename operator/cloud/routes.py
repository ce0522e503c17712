"""Routes that lead to instances: read whole, changed one by one.

Only calls that the documented policy has always allowed are made, so neither ReplaceRoute nor
ModifyNetworkInterfaceAttribute: a route is replaced by deleting it and making it anew, and the check of source and
destination is an attribute of an instance with one interface as well, which every cell is.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from kip.cloud.errors import NotFound
from kip.cloud.sdk import Answer, Ec2Sdk, filters


@dataclass(frozen=True, slots=True)
class Route:
    """A route for an IPv4 range. Routes carry neither tags nor descriptions: whose one is, nothing of its own says."""

    cidr: str
    network_interface_id: str | None = None
    """None for a route to anything else, like a gateway or the VPC itself."""
    instance_id: str | None = None
    """The instance that the interface is attached to; EC2 tells it while there is one."""
    blackhole: bool = False
    """Its target is gone; what it would have sent there is dropped."""
    to: str = ""
    """Its target, for people."""


@dataclass(frozen=True, slots=True)
class RouteTable:
    """A VPC's route table."""

    id: str
    vpc_id: str
    main: bool
    """True for the table of every subnet that has none of its own."""
    subnet_ids: frozenset[str]
    """Subnets that are associated with it explicitly."""
    routes: tuple[Route, ...]

    def route(self, cidr: str) -> Route | None:
        """The route for exactly this range: a table has at most one."""
        return next((route for route in self.routes if route.cidr == cidr), None)


class Routing(Protocol):
    """Route tables. Every method may raise the errors of `kip.cloud.errors`."""

    async def route_tables(self, vpc_ids: Collection[str] | None = None) -> list[RouteTable]:
        """Those of these VPCs, or of all in the region."""
        ...

    async def create_route(self, table_id: str, cidr: str, network_interface_id: str) -> None:
        """Lead a range to an interface.

        Raises:
            CloudError: with the code `RouteAlreadyExists` if the table has a route for the range, wherever it leads.
            NotFound: there is no such table or interface.
        """
        ...

    async def delete_route(self, table_id: str, cidr: str) -> None:
        """Take the route for a range away, **wherever it leads**: EC2 has no way to name its target too. Fine if there
        is none, or no such table."""
        ...

    async def pass_foreign_traffic(self, instance_id: str) -> None:
        """Let the instance receive and send packets that are neither for nor from its own addresses."""
        ...


class Ec2Routes:
    """`Routing` over EC2."""

    def __init__(self, sdk: Ec2Sdk) -> None:
        self._sdk = sdk

    async def route_tables(self, vpc_ids: Collection[str] | None = None) -> list[RouteTable]:
        wanted = filters() if vpc_ids is None else filters({"vpc-id": sorted(vpc_ids)})
        return [to_route_table(answer) for answer in await self._sdk.describe_route_tables(wanted)]

    async def create_route(self, table_id: str, cidr: str, network_interface_id: str) -> None:
        await self._sdk.create_route(
            RouteTableId=table_id, DestinationCidrBlock=cidr, NetworkInterfaceId=network_interface_id
        )

    async def delete_route(self, table_id: str, cidr: str) -> None:
        try:
            await self._sdk.delete_route(RouteTableId=table_id, DestinationCidrBlock=cidr)
        except NotFound:
            pass

    async def pass_foreign_traffic(self, instance_id: str) -> None:
        await self._sdk.modify_instance_attribute(InstanceId=instance_id, SourceDestCheck={"Value": False})


_TARGETS = (
    "NetworkInterfaceId",
    "InstanceId",
    "GatewayId",
    "NatGatewayId",
    "TransitGatewayId",
    "VpcPeeringConnectionId",
    "LocalGatewayId",
    "CarrierGatewayId",
    "CoreNetworkArn",
)


def to_route_table(answer: Answer) -> RouteTable:
    """A route table from AWS's description of it; routes for IPv6 ranges and prefix lists are left out."""
    associations = answer.get("Associations", [])
    return RouteTable(
        id=answer["RouteTableId"],
        vpc_id=answer["VpcId"],
        main=any(association.get("Main") for association in associations),
        subnet_ids=frozenset(a["SubnetId"] for a in associations if "SubnetId" in a),
        routes=tuple(
            Route(
                cidr=route["DestinationCidrBlock"],
                network_interface_id=route.get("NetworkInterfaceId"),
                instance_id=route.get("InstanceId"),
                blackhole=route.get("State") == "blackhole",
                to=next((route[key] for key in _TARGETS if route.get(key)), "something else"),
            )
            for route in answer.get("Routes", [])
            if route.get("DestinationCidrBlock")
        ),
    )
