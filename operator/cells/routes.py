"""Stage: the ranges that the pod's annotation names lead to its cell (`pod.elotl.co/cloud-route`).

The last one, and nothing waits for it: a pod runs whether its routes can be made or not, and its events say so.
Only a cell that serves has routes. Such a cell is never given up for another machine, so the interface in its record
stays the cell's own until its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kip.cells.rest import Rests
from kip.cells.routekeeper import Result, RouteKeeper
from kip.cells.stages import Pod, Step, Tools
from kip.cloud.base import Network
from kip.cloud.errors import CloudError
from kip.model.cell import ROUTED, Cell, CloudRoutes
from kip.model.outcome import DONE, Wait
from kip.pods.annotations import InvalidAnnotationError, Layer, wishes

# AWS could not be asked. What a round could not do is tried again by the keeper, which tells when that ends otherwise.
_AGAIN_S = 15.0
# EC2 may not show an instance for some seconds after its launch.
_LOOK_AGAIN_S = 2.0
_LOOK_AGAIN_LATER_S = 60.0
_TOO_OLD = (
    "the type Cell in this cluster is of an older version of Kip and keeps no record of routes, so none are made; "
    "apply crds/ of this version"
)


class Routes:
    """Serving → Routed, for a pod that wants routes; kept up to date with its annotation."""

    def __init__(
        self,
        tools: Tools,
        keeper: RouteKeeper,
        network: Network,
        *,
        defaults: Callable[[Pod], tuple[Layer, ...]] = lambda pod: (),
    ) -> None:
        """`defaults` are the annotations that count for a pod which has none of the same name."""
        self._tools = tools
        self._defaults = defaults
        self._keeper = keeper
        self._network = network
        self._rests = Rests(tools.clock)

    async def __call__(self, cell: Cell, pod: Pod) -> Step:
        try:
            wanted = wishes(pod, self._defaults(pod)).cloud_routes
        except InvalidAnnotationError as error:
            # Changed since the pod was accepted. What was wanted before stays.
            await self._tools.report.warning(pod, "InvalidAnnotation", str(error))
            return cell, DONE
        if not wanted and cell.routes is None:
            return cell, DONE
        if cell.routes is not None and (
            known := self._keeper.known(cell.routes.network_interface_id, wanted)
        ):
            return await self._concluded(cell, pod, cell.routes, wanted, known)
        attempt = f"{cell.name} {' '.join(wanted)}"
        if (left_s := self._rests.left_s(attempt)) > 0:
            return cell, Wait(left_s, "resting after a refusal of AWS")
        try:
            routes = await self._record(cell, wanted)
            if routes is None:
                return cell, Wait(_LOOK_AGAIN_S, "EC2 does not show the instance's network interface")
            if routes != cell.routes:
                cell = await self._tools.cells.save(replace(cell, routes=routes))
                if cell.routes != routes:
                    # An API server takes out of an object what its schema does not have.
                    return await self._failed(cell, pod, "CellTypeTooOld", _TOO_OLD), Wait(
                        _LOOK_AGAIN_LATER_S, "CellTypeTooOld"
                    )
            result = await self._keeper.settle(routes.network_interface_id, wanted)
            if result is None:
                return cell, Wait(_LOOK_AGAIN_S, "the Cell has gone meanwhile")
        except CloudError as error:
            self._rests.begin(attempt, _AGAIN_S)
            return await self._failed(cell, pod, error.reason, error.summary), Wait(_AGAIN_S, error.reason)
        return await self._concluded(cell, pod, routes, wanted, result)

    async def _record(self, cell: Cell, wanted: tuple[str, ...]) -> CloudRoutes | None:
        """What there may be from now on: what was wanted before too, until it is known to be gone."""
        if cell.routes is not None:
            return replace(cell.routes, cidrs=tuple(dict.fromkeys((*cell.routes.cidrs, *wanted))))
        instance = await self._tools.fleet.look_at(cell.instance_id or "")
        if instance is None or instance.network_interface_id is None or instance.subnet_id is None:
            return None
        subnet = await self._network.subnet(instance.subnet_id)
        return CloudRoutes(instance.network_interface_id, subnet.vpc_id, subnet.id, wanted)

    async def _concluded(
        self, cell: Cell, pod: Pod, routes: CloudRoutes, wanted: tuple[str, ...], result: Result
    ) -> Step:
        if result.trouble:
            return await self._failed(cell, pod, result.reason, result.trouble), DONE
        if not wanted:
            return replace(cell, routes=None, conditions=cell.conditions.without(ROUTED)), DONE
        message = f"{', '.join(wanted)} lead to {routes.network_interface_id}"
        if not self._told(cell, message):
            await self._tools.report.progress(pod, "CloudRoutesMade", message)
        cell = replace(cell, routes=replace(routes, cidrs=wanted))
        return cell.set(ROUTED, "True", "Routed", message, now=self._tools.clock.now()), DONE

    async def _failed(self, cell: Cell, pod: Pod, reason: str, message: str) -> Cell:
        if not self._told(cell, message):
            await self._tools.report.warning(pod, reason, f"cloud routes: {message}")
        return cell.set(ROUTED, "False", reason, message, now=self._tools.clock.now())

    def _told(self, cell: Cell, message: str) -> bool:
        condition = cell.conditions.get(ROUTED)
        return condition is not None and condition.message == message
