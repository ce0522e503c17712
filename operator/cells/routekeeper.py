"""Keeps the VPC's route tables as this node's cells want them: for all of them at once, in rounds.

A round starts from what is: one look at the tables, a plan (`kip.cells.routeplan`), its steps. What is Kip's follows
from the Cells alone, so that any process goes on where another one died: before a route is made the Cell has recorded
it (`kip.cells.routes`), and a Cell goes only when a round has found nothing of it any more (`kip.cells.terminate`).

EC2 deletes a route by table and range, wherever it leads by then. Between a round's look and its last step are
milliseconds; who replaces a route of Kip's by one of their own in just these may lose it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import structlog

from kip.cells.repository import Cells
from kip.cells.routeplan import Claim, Plan, Step, plan
from kip.cloud.base import Instance, Network
from kip.cloud.batching import Batcher, Windows
from kip.cloud.errors import CloudError, NotAuthorized, Throttled, Unreachable
from kip.cloud.routes import Routing
from kip.model.cell import Cell, CloudRoutes
from kip.model.clock import Clock

log = structlog.get_logger(__name__)

# For what others change: a table of its own for the subnet, a route that somebody took away.
LOOK_S = 60.0
# For what could not be done.
AGAIN_S = 15.0
# Cells that begin or end together share a round.
_WINDOWS = Windows(idle=0.05, longest=0.5, most_items=2)  # never so many: who asks, asks for the same
# After one of these the next call fails the same way.
_SAME_FOR_ALL = (NotAuthorized, Throttled, Unreachable)
TAKEN = "CloudRouteTaken"


@dataclass(frozen=True)
class Result:
    """How a round ended for one cell."""

    wanted: frozenset[str] | None
    reason: str = ""
    """One word for conditions and events; empty if all is as wanted."""
    trouble: str = ""


class RouteKeeper:
    """The routes to this node's cells."""

    def __init__(
        self,
        routing: Routing,
        network: Network,
        cells: Cells,
        clock: Clock,
        *,
        mark: Callable[[str], None],
    ) -> None:
        """`mark(pod_uid)` is called when a round has ended otherwise for a cell than the one before."""
        self._routing = routing
        self._network = network
        self._cells = cells
        self._clock = clock
        self._mark = mark
        self._rounds: Batcher[str, dict[str, Result]] = Batcher(self._round, _WINDOWS, clock=clock)
        self._one_at_a_time = asyncio.Lock()
        self._looked_at = float("-inf")
        # By network interface. Only hints: what is not in here is found out by the next pass over the cell.
        self._wanted: dict[str, frozenset[str]] = {}
        self._leaving: dict[str, Claim] = {}
        self._abandoned: dict[str, str] = {}
        self._results: dict[str, Result] = {}

    async def run(self) -> None:
        """Look again for ever, as long as there is anything to look after."""
        while True:
            await self._clock.sleep(AGAIN_S)
            troubled = bool(self._abandoned) or any(result.trouble for result in self._results.values())
            due = troubled or self._clock.monotonic() - self._looked_at >= LOOK_S
            if due and (self._claims() or self._abandoned):
                try:
                    await self._next_round()
                except CloudError as error:
                    log.warning("cloud routes not looked at", error=str(error))

    async def close(self) -> None:
        await self._rounds.close()

    def known(self, interface: str, wanted: Iterable[str]) -> Result | None:
        """How the last round ended for the cell with this network interface, if it was about the same ranges."""
        result = self._results.get(interface)
        return result if result is not None and result.wanted == frozenset(wanted) else None

    async def settle(self, interface: str, wanted: Iterable[str]) -> Result | None:
        """Bring the tables to what this cell, which has recorded it, and all others want; None if it has gone meanwhile.

        Raises CloudError.
        """
        self._wanted[interface] = frozenset(wanted)
        return (await self._next_round()).get(interface)

    async def withdraw(self, cell: Cell) -> str | None:
        """Take away what leads to a cell whose machine has ended; why that failed, None when nothing is left."""
        if cell.routes is None:
            return None
        interface = cell.routes.network_interface_id
        self._leaving[interface] = _claim(cell, cell.routes, None, ended=True)
        try:
            result = (await self._next_round())[interface]
        except CloudError as error:
            return error.summary
        return result.trouble or None

    async def abandon(self, instances: Collection[Instance]) -> None:
        """Take away what leads to machines that belong to no Cell, before they are ended: later nothing would say that
        it was Kip's. Raises nothing: a machine that costs money is ended whatever is the matter with routes."""
        try:
            for subnet_id in {i.subnet_id for i in instances if i.subnet_id}:
                vpc_id = (await self._network.subnet(subnet_id)).vpc_id
                here = (i.network_interface_id for i in instances if i.subnet_id == subnet_id)
                self._abandoned |= {interface: vpc_id for interface in here if interface}
            if self._abandoned:
                await self._round(["abandoned"])
        except CloudError as error:
            log.warning("routes to machines without a cell not looked for", error=str(error))

    async def _next_round(self) -> dict[str, Result]:
        """Results by network interface, of a round that begins after this call."""
        (results,) = await self._rounds.submit(["round"])
        return results

    async def _round(self, asked: list[str]) -> list[dict[str, Result]]:
        async with self._one_at_a_time:
            self._looked_at = self._clock.monotonic()
            claims, abandoned = self._claims(), dict(self._abandoned)
            vpcs = {claim.vpc_id for claim in claims} | set(abandoned.values())
            tables = await self._routing.route_tables(vpcs) if vpcs else []
            made = plan(tables, claims, abandoned)
            failed = await self._execute(made.steps)
            results = {c.network_interface_id: _result(c, made, failed) for c in claims}
            for interface in abandoned.keys() - failed.keys():
                del self._abandoned[interface]
            self._conclude(claims, results)
        return [results for _ in asked]

    def _conclude(self, claims: Collection[Claim], results: dict[str, Result]) -> None:
        """Forget what is done with, and wake the cells for which something has changed."""
        before, self._results = self._results, results
        for claim in claims:
            if claim.ended and not results[claim.network_interface_id].trouble:
                self._leaving.pop(claim.network_interface_id, None)
        recorded = self._recorded()
        present = {routes.network_interface_id for _, routes in recorded}
        self._wanted = {i: wanted for i, wanted in self._wanted.items() if i in present}
        for cell, routes in recorded:
            interface = routes.network_interface_id
            if results.get(interface) != before.get(interface):
                self._mark(cell.pod_uid)

    def _recorded(self) -> list[tuple[Cell, CloudRoutes]]:
        """The cells with routes, the oldest first: who has waited longest for a range is the next to have it."""
        cells = sorted(self._cells.all(), key=lambda cell: (cell.created, cell.name))
        return [(cell, cell.routes) for cell in cells if cell.routes is not None]

    def _claims(self) -> list[Claim]:
        claims = {
            routes.network_interface_id: _claim(
                cell, routes, self._wanted.get(routes.network_interface_id), ended=cell.ending
            )
            for cell, routes in self._recorded()
        }
        return list((claims | self._leaving).values())

    async def _execute(self, steps: Collection[Step]) -> dict[str, CloudError]:
        """Each step by itself; the errors by the network interface that they are about."""
        failed: dict[str, CloudError] = {}
        for_all: CloudError | None = None
        for step in steps:
            told = log.bind(table=step.table_id, cidr=step.cidr, interface=step.network_interface_id)
            try:
                if for_all is not None:
                    raise for_all.with_traceback(None)
                await self._do(step)
            except CloudError as error:
                failed[step.network_interface_id] = error
                for_all = error if isinstance(error, _SAME_FOR_ALL) else None
                told.warning(f"cloud route not {step.action}d", why=step.reason, error=str(error))
            else:
                told.info(f"cloud route {step.action}d", why=step.reason)
        return failed

    async def _do(self, step: Step) -> None:
        if step.action != "delete" and (instance_id := self._instance_of(step.network_interface_id)):
            # First: a route to a machine that gets none of the packets would look right and be of no use.
            await self._routing.pass_foreign_traffic(instance_id)
        if step.action != "create":
            await self._routing.delete_route(step.table_id, step.cidr)
        if step.action != "delete":
            await self._routing.create_route(step.table_id, step.cidr, step.network_interface_id)

    def _instance_of(self, interface: str) -> str | None:
        recorded = self._recorded()
        return next(
            (c.instance_id for c, routes in recorded if routes.network_interface_id == interface), None
        )


def _claim(cell: Cell, routes: CloudRoutes, wanted: frozenset[str] | None, *, ended: bool) -> Claim:
    return Claim(
        cell=cell.name,
        network_interface_id=routes.network_interface_id,
        vpc_id=routes.vpc_id,
        subnet_id=routes.subnet_id,
        recorded=frozenset(routes.cidrs),
        wanted=wanted,
        ended=ended,
    )


def _result(claim: Claim, made: Plan, failed: Mapping[str, CloudError]) -> Result:
    error = failed.get(claim.network_interface_id)
    told = [r.reason for r in made.refusals if r.network_interface_id == claim.network_interface_id]
    if error is not None:
        return Result(claim.wanted, error.reason, "; ".join([error.summary, *told]))
    return Result(claim.wanted, TAKEN if told else "", "; ".join(told))
