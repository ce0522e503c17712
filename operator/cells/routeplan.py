"""Which routes to make, move and take away: a pure decision over route tables and what cells want of them.

EC2's routes carry no tags, so that nothing on a route says whose it is. A route is Kip's if it leads to the network
interface that a Cell has recorded, for a range that it has recorded too; both are written before the route is made
(`kip.cells.routes`), and ids of interfaces are never used again. Whatever else is in a table belongs to somebody else:
it is neither replaced nor taken away, and also not what somebody else has led to a cell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kip.cloud.routes import Route, RouteTable


@dataclass(frozen=True, slots=True)
class Claim:
    """What one cell has recorded, and what it wants."""

    cell: str
    network_interface_id: str
    vpc_id: str
    subnet_id: str
    recorded: frozenset[str]
    """Ranges for which there may be a route of this cell's."""
    wanted: frozenset[str] | None
    """Those for which there shall be one; None while that is not known: what is there stays, nothing is made."""
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do."""

    action: Literal["create", "replace", "delete"]
    table_id: str
    cidr: str
    network_interface_id: str
    """Where the range is to lead; for `delete` where it leads now."""
    reason: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A route that is wanted and not made."""

    network_interface_id: str
    cidr: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in this order, and what cannot be done."""

    steps: tuple[Step, ...] = ()
    refusals: tuple[Refusal, ...] = ()


Place = tuple[str, str]
"""A route table's id and a range: there is one route for both at most."""


def plan(tables: Collection[RouteTable], claims: Sequence[Claim], abandoned: Collection[str] = ()) -> Plan:
    """What brings the tables to what is wanted.

    Args:
        tables: all of the claims' VPCs.
        claims: whoever comes first gets a range that several want, unless one has it already.
        abandoned: network interfaces of machines that belong to no Cell any more and are about to be ended.
    """
    held, surplus = _ours(tables, claims, frozenset(abandoned))
    steps: list[Step] = []
    refusals: list[Refusal] = []
    for claim, table, cidr in _wanted(claims, tables):
        place = table.id, cidr
        holder, there = held.get(place), table.route(cidr)
        if holder is not None and holder is not claim:
            reason = f"{cidr} leads to cell {holder.cell} already; it is this one's turn when that has ended"
            refusals.append(Refusal(claim.network_interface_id, cidr, reason))
        elif holder is None and there is not None and place not in surplus:
            reason = (
                f"route table {table.id} leads {cidr} to {there.to}, and Kip does not change what others made"
            )
            refusals.append(Refusal(claim.network_interface_id, cidr, reason))
        elif holder is None:
            steps.append(_making(place, claim, surplus.pop(place, None)))
            held[place] = claim
    return Plan((*_taking_away(surplus), *steps), tuple(refusals))


def route_table_of(subnet_id: str, vpc_id: str, tables: Collection[RouteTable]) -> RouteTable | None:
    """The table that counts for a subnet: its own, else the VPC's main one."""
    own = (table for table in tables if subnet_id in table.subnet_ids)
    main = (table for table in tables if table.main and table.vpc_id == vpc_id)
    return next(own, None) or next(main, None)


def _ours(
    tables: Collection[RouteTable], claims: Sequence[Claim], abandoned: frozenset[str]
) -> tuple[dict[Place, Claim], dict[Place, tuple[Route, str]]]:
    """Of Kip's routes those that are as they should be, and those to be taken away, with the reason."""
    by_interface = {claim.network_interface_id: claim for claim in claims}
    right = {c.network_interface_id: route_table_of(c.subnet_id, c.vpc_id, tables) for c in claims}
    held: dict[Place, Claim] = {}
    surplus: dict[Place, tuple[Route, str]] = {}
    for table in tables:
        for route in table.routes:
            place, interface = (table.id, route.cidr), route.network_interface_id or ""
            claim = by_interface.get(interface)
            if claim is None:
                if interface in abandoned:
                    surplus[place] = route, "its machine belongs to no cell"
            elif route.cidr in claim.recorded:
                why = _why_surplus(route, claim, here=right[interface] is table)
                if why is None:
                    held[place] = claim
                else:
                    surplus[place] = route, why
    return held, surplus


def _why_surplus(route: Route, claim: Claim, *, here: bool) -> str | None:
    if claim.ended:
        return f"cell {claim.cell} has ended"
    if claim.wanted is None:
        return None
    if route.cidr not in claim.wanted:
        return f"cell {claim.cell} no longer wants it"
    return None if here else f"the subnet of cell {claim.cell} has another route table now"


def _wanted(
    claims: Sequence[Claim], tables: Collection[RouteTable]
) -> Iterator[tuple[Claim, RouteTable, str]]:
    for claim in claims:
        table = route_table_of(claim.subnet_id, claim.vpc_id, tables)
        if table is not None and not claim.ended:  # every VPC has a main table, and it cannot be deleted
            for cidr in sorted(claim.wanted or ()):
                yield claim, table, cidr


def _making(place: Place, claim: Claim, instead: tuple[Route, str] | None) -> Step:
    table_id, cidr = place
    wants = f"cell {claim.cell} wants it"
    if instead is None:
        return Step("create", table_id, cidr, claim.network_interface_id, wants)
    return Step("replace", table_id, cidr, claim.network_interface_id, f"{wants}, and {instead[1]}")


def _taking_away(surplus: Mapping[Place, tuple[Route, str]]) -> Iterator[Step]:
    for (table_id, cidr), (route, why) in surplus.items():
        yield Step("delete", table_id, cidr, route.network_interface_id or "", why)
