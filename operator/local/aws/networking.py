"""What EC2 does with security groups, routes and source/destination checks, and moto does not: dry runs among it."""

from __future__ import annotations

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instances import Instance
from moto.ec2.models.route_tables import Route, RouteTable
from moto.ec2.models.subnets import Subnet
from moto.ec2.responses import EC2Response


class LocalRoute(Route):
    """moto's route, which knows whether its target is still there."""

    @property
    def state(self) -> str:
        """EC2 keeps a route whose interface is deleted, and drops what it would have sent there."""
        if self.interface is None:
            return "active"
        there = self.interface.id in self.route_table.ec2_backend.enis
        return "active" if there else "blackhole"

    @property
    def instance_id(self) -> str | None:
        """EC2 names the instance too, as long as the interface is attached to one."""
        if self.interface is None or self.state == "blackhole":
            return super().instance_id
        return self.interface.instance.id if self.interface.instance else None


def led_to_instances(instance: Instance) -> dict[str, str]:
    """Ranges that the route table of the instance's subnet leads to another instance → that one's address.

    An interface whose source/destination check is on gets no packets for others: EC2 drops them.
    """
    own = instance.nics.get(0)
    table = _table_of(own.subnet) if own else None
    if table is None:
        return {}
    active = [route for route in table.routes if isinstance(route, LocalRoute) and route.state == "active"]
    return {
        str(route.destination_cidr_block): str(route.interface.private_ip_address)
        for route in active
        if route.interface is not None and route.interface != own and not route.interface.source_dest_check
    }


def _table_of(subnet: Subnet) -> RouteTable | None:
    """The subnet's own, else the VPC's main one."""
    tables = [t for t in subnet.ec2_backend.route_tables.values() if t.vpc_id == subnet.vpc_id]
    named = (t for t in tables if any(a.get("SubnetId") == subnet.id for a in t.associations))
    return next(named, next((t for t in tables if t.main_association_id), None))


class NetworkCalls(EC2Response):
    """A part of `kip.local.aws.ec2.LocalEC2Response`."""

    def create_route(self) -> ActionResult:
        table = self.ec2_backend.get_route_table(self._get_param("RouteTableId"))
        cidr = self._get_param("DestinationCidrBlock")
        # moto looks for that with some targets only, and not at local routes.
        if any(route.destination_cidr_block == cidr for route in table.routes):
            raise EC2ClientError("RouteAlreadyExists", f"The route identified by {cidr} already exists.")
        self.error_on_dryrun()
        result = super().create_route()
        (made,) = (route for route in table.routes if route.destination_cidr_block == cidr)
        made.__class__ = LocalRoute  # the backend's method has no place where another class could be named
        return result

    def delete_route(self) -> ActionResult:
        self.ec2_backend.get_route_table(self._get_param("RouteTableId"))
        self.error_on_dryrun()
        return super().delete_route()

    def modify_instance_attribute(self) -> ActionResult:
        self.ec2_backend.get_instance(self._get_param("InstanceId"))
        self.error_on_dryrun()
        result = super().modify_instance_attribute()
        checked = self._get_param("SourceDestCheck.Value")
        if checked is not None:
            instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
            if len(instance.nics) > 1:
                raise EC2ClientError(
                    "InvalidInstanceID",
                    f"There are multiple interfaces attached to instance '{instance.id}'."
                    " Please specify an interface ID for the operation instead.",
                )
            on = str(checked).lower() == "true"
            instance.source_dest_check = on
            for interface in instance.nics.values():
                interface.source_dest_check = on
        return result

    def delete_security_group(self) -> ActionResult:
        group_id = self._get_param("GroupId")
        self.error_on_dryrun()
        used = {group.id for eni in self.ec2_backend.enis.values() for group in eni.group_set}
        named = {
            rule.source_group.get("GroupId")
            for groups in self.ec2_backend.groups.values()
            for group in groups.values()
            for rule in (*group.ingress_rules, *group.egress_rules)
            if rule.source_group and group.id != group_id
        }
        if group_id in used | named:
            raise EC2ClientError("DependencyViolation", f"resource {group_id} has a dependent object")
        return super().delete_security_group()
