"""Of ways: from Kip to the cells, and to the image cache."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from kip.cloud.base import Subnet
from kip.cloud.metadata import Whereabouts
from kip.cloud.routes import RouteTable
from kip.doctor.checks.identity import in_the_cluster
from kip.doctor.checks.network import table_of
from kip.doctor.checks.remedies import not_known
from kip.doctor.facts import Connection, Facts, Unanswered
from kip.doctor.finding import Finding, Remedy, failure, ok, unknown, warning

_CELLS, _CACHE = "way to the cells", "image cache"


def cells(facts: Facts) -> Iterator[Finding]:
    """By a cell that there is; without one by what is known of both sides."""
    if not facts.in_cluster:
        why = "this is not where Kip runs, so that nothing can be said of its way to the cells"
        yield unknown(_CELLS, why, in_the_cluster(facts.settings.cluster.namespace))
        return
    if isinstance(facts.ssh, Connection):
        yield _tried(facts.ssh)
        return
    yield from _admitted(facts)
    yield from _routed(facts)


def _tried(found: Connection) -> Finding:
    if not found.problem:
        return ok(_CELLS, f"{found.target} answers")
    return failure(
        _CELLS,
        f"{found.target} does not answer: {found.problem}",
        Remedy(
            text="let Kip's nodes reach port 22 of the cells: routes between their subnets, network ACLs, the cells' "
            "security group (cells.extraCIDRs), and network policies for Kip's own pods",
        ),
    )


def _admitted(facts: Facts) -> Iterator[Finding]:
    """The security group lets in the VPC's ranges and those of `cells.extraCIDRs`."""
    if not facts.own_address or isinstance(facts.vpc_cidrs, Unanswered):
        return
    ranges = [*facts.vpc_cidrs, *(str(cidr) for cidr in facts.settings.cells.extra_cidrs)]
    if not _in_any(facts.own_address, ranges):
        yield failure(
            _CELLS,
            f"Kip's address {facts.own_address} is in none of the ranges that cells let in ({', '.join(ranges)})",
            Remedy(text=f"add its range to cells.extraCIDRs in provider.yaml, as [{facts.own_address}/32]"),
        )


def _in_any(address: str, ranges: Iterable[str]) -> bool:
    found = ipaddress.ip_address(address)
    return any(found in ipaddress.ip_network(cidr) for cidr in ranges)


def _routed(facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.subnets, Unanswered):
        yield not_known(facts, _CELLS, facts.subnets)
    elif isinstance(facts.here, Unanswered):
        yield not_known(facts, _CELLS, facts.here)
    elif facts.here is None:
        yield unknown(
            _CELLS,
            "where Kip runs is not known, and no cell runs that could be tried",
            Remedy(
                text="set the environment variable NODE_NAME, as the manifests do, or let a pod run and ask again"
            ),
        )
    elif facts.here.vpc_id == facts.subnets[0].vpc_id:
        yield ok(_CELLS, f"Kip runs in their VPC, {facts.here.vpc_id}; no cell runs that could be tried")
    else:
        yield from _back(facts, facts.here, facts.subnets)


def _back(facts: Facts, here: Whereabouts, subnets: tuple[Subnet, ...]) -> Iterator[Finding]:
    """From another VPC there has to be a way back too; that is what can be seen."""
    why = f"Kip runs in {here.vpc_id}, the cells are in {subnets[0].vpc_id}"
    if isinstance(facts.tables, Unanswered) or not facts.own_address:
        yield unknown(_CELLS, f"{why}; whether there is a way between them is not known")
        return
    lacking = [subnet for subnet in subnets if not _leads(table_of(subnet, facts.tables), facts.own_address)]
    for subnet in lacking:
        table = table_of(subnet, facts.tables)
        yield failure(
            _CELLS,
            f"{why}, and {subnet.id} has no route to {facts.own_address}",
            Remedy(
                text="connect the VPCs by peering or a transit gateway, and add routes on both sides",
                command=f"aws ec2 create-route --route-table-id {table.id if table else 'TABLE'} "
                f"--destination-cidr-block {facts.own_address}/32 --vpc-peering-connection-id PEERING",
            ),
        )
    if not lacking:
        yield ok(
            _CELLS, f"{why}, whose route tables lead to {facts.own_address}; no cell runs that could be tried"
        )


def _leads(table: RouteTable | None, address: str) -> bool:
    """By the most specific route, and not out of the world that VPCs know of each other."""
    found = ipaddress.ip_address(address)
    routes = [r for r in (table.routes if table else ()) if found in ipaddress.ip_network(r.cidr)]
    if not routes:
        return False
    best = max(routes, key=lambda route: ipaddress.ip_network(route.cidr).prefixlen)
    return not best.blackhole and not best.to.startswith(("igw-", "nat-"))


def image_cache(facts: Facts) -> Iterator[Finding]:
    """The file system's port for NFS, where one is configured. Cells do without, so it is no failure."""
    found = facts.image_cache
    if found is None:
        return
    if not found.problem:
        yield ok(_CACHE, f"{found.target} answers")
        return
    group = facts.own_group["GroupId"] if isinstance(facts.own_group, dict) else "CELLS_GROUP"
    yield warning(
        _CACHE,
        f"{found.target} does not answer to Kip: {found.problem}; images are pulled as without a cache",
        Remedy(
            text="there has to be a mount target in the cells' VPC, whose security group lets cells and Kip in; mend "
            "cells.imageCache.endpoint otherwise",
            command="aws ec2 authorize-security-group-ingress --group-id MOUNT_TARGET_GROUP --protocol tcp --port 2049 "
            f"--source-group {group}",
        ),
    )
