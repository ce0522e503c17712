"""The fake cloud's route tables."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from kip.cloud.base import Instance
from kip.cloud.errors import CloudError, NotFound
from kip.cloud.routes import Route, RouteTable


class FakeRouteTables:
    """Those of one VPC: a main one, and what tests add to `tables`."""

    def __init__(self, vpc_id: str, cidr: str, instances: Callable[[], Collection[Instance]]) -> None:
        """`instances` are all there ever were."""
        self._instances = instances
        main = RouteTable("rtb-main", vpc_id, True, frozenset(), (Route(cidr, to="local"),))
        self.tables: dict[str, RouteTable] = {main.id: main}
        #: Ids of instances that may receive and send what is not theirs.
        self.unchecked: set[str] = set()

    def look(self, vpc_ids: Collection[str] | None) -> list[RouteTable]:
        return [
            replace(table, routes=tuple(map(self._now, table.routes)))
            for table in self.tables.values()
            if vpc_ids is None or table.vpc_id in vpc_ids
        ]

    def create(self, table_id: str, cidr: str, network_interface_id: str) -> None:
        table = self.tables.get(table_id)
        if table is None:
            raise NotFound(
                f"no route table {table_id}", action="CreateRoute", code="InvalidRouteTableID.NotFound"
            )
        if table.route(cidr) is not None:
            raise CloudError(
                f"The route identified by {cidr} already exists",
                action="CreateRoute",
                code="RouteAlreadyExists",
            )
        if self._attached(network_interface_id) is None:
            raise NotFound(
                f"no interface {network_interface_id}",
                action="CreateRoute",
                code="InvalidNetworkInterfaceID.NotFound",
            )
        route = Route(cidr, network_interface_id=network_interface_id, to=network_interface_id)
        self.tables[table_id] = replace(table, routes=(*table.routes, route))

    def delete(self, table_id: str, cidr: str) -> None:
        table = self.tables.get(table_id)
        if table is not None:
            self.tables[table_id] = replace(table, routes=tuple(r for r in table.routes if r.cidr != cidr))

    def stop_checking(self, instance_id: str) -> None:
        if instance_id not in {i.id for i in self._instances() if not i.gone}:
            raise NotFound(
                f"no instance {instance_id}",
                action="ModifyInstanceAttribute",
                code="InvalidInstanceID.NotFound",
            )
        self.unchecked.add(instance_id)

    def to_interfaces(self) -> dict[tuple[str, str], str]:
        """Every route to an interface: table and range to the interface's id."""
        return {
            (table.id, route.cidr): route.network_interface_id
            for table in self.tables.values()
            for route in table.routes
            if route.network_interface_id
        }

    def _now(self, route: Route) -> Route:
        if route.network_interface_id is None:
            return route
        instance_id = self._attached(route.network_interface_id)
        return replace(route, instance_id=instance_id, blackhole=instance_id is None)

    def _attached(self, network_interface_id: str) -> str | None:
        return next((i.id for i in self._instances() if i.network_interface_id == network_interface_id), None)
