"""Stage: the instance is ended, and EC2 says so; then the Cell may go."""

from __future__ import annotations

from dataclasses import replace

import structlog

from kip.cells.goal import End
from kip.cells.launcher import Launcher
from kip.cells.refusal import rest_s
from kip.cells.relaunch import ending
from kip.cells.routekeeper import RouteKeeper
from kip.cells.stages import Pod, Step, Tools
from kip.cloud.errors import CloudError
from kip.model.cell import TERMINATED, Cell
from kip.model.outcome import Stop, Wait

log = structlog.get_logger(__name__)

# TerminateInstances is accepted within a second; a look some seconds later is for the rare answer that got lost.
_LOOK_AGAIN_S = 2.0
_WAIT_GONE_S = 5.0
# A person has to change a policy.
_ROUTES_AGAIN_S = 15.0


class Terminate:
    """→ Terminated, and the end of the Cell object."""

    def __init__(self, tools: Tools, launcher: Launcher, routes: RouteKeeper) -> None:
        self._tools = tools
        self._launcher = launcher
        self._routes = routes

    async def __call__(self, cell: Cell, pod: Pod | None, goal: End) -> Step:
        tools = self._tools
        # The kubelet must not go on writing a status for a pod whose machine is being taken away.
        await tools.links.drop(cell.name)
        left_s = tools.rests.left_s(ending(cell))
        if left_s > 0:
            return cell, Wait(left_s, "resting after a refusal of EC2")
        try:
            if cell.intent is not None and cell.instance_id is None:
                cell = await self._find_launched(cell)
            if (instance_id := cell.instance_id) is not None:
                cell = await self._begun(cell, goal)
                if not await self._ended(cell, instance_id):
                    return cell, Wait(_LOOK_AGAIN_S, "waiting for EC2 to end the instance")
        except CloudError as error:
            return await self._refused(cell, pod, error)
        await self._settle_pod(pod, goal)
        if (trouble := await self._routes.withdraw(cell)) is not None:
            # Only this Cell knows that they are Kip's.
            message = f"the instance has ended, routes that led to it are left: {trouble}"
            log.warning("cell kept for its routes", cell=cell.name, error=trouble)
            await tools.report.cell_warning(cell, "RoutesLeft", message)
            cell = cell.set(TERMINATED, "Unknown", "RoutesLeft", message, now=tools.clock.now())
            return cell, Wait(_ROUTES_AGAIN_S, "RoutesLeft")
        await tools.cells.release(cell)
        return cell, Stop("the cell is gone")

    async def _find_launched(self, cell: Cell) -> Cell:
        """An intent without an answer: an instance may have been launched for it. What cannot be found now is found
        by the sweep, because no Cell will claim it."""
        instance = await self._launcher.find(cell)
        if instance is None:
            return cell
        return replace(cell, instance_id=instance.id, address=instance.private_ip, zone=instance.zone)

    async def _begun(self, cell: Cell, goal: End) -> Cell:
        """The cell, which says so before its instance goes: the next process must know that the pod has lost it."""
        tools = self._tools
        if cell.conditions.get(TERMINATED):
            return cell
        cell = cell.set(TERMINATED, "Unknown", goal.reason, goal.message, now=tools.clock.now())
        return await tools.cells.save(cell)

    async def _ended(self, cell: Cell, instance_id: str) -> bool:
        if self._tools.fleet.ended(cell):
            return True
        await self._tools.fleet.terminate([instance_id])
        return await self._tools.fleet.wait_gone(instance_id, deadline_s=_WAIT_GONE_S)

    async def _refused(self, cell: Cell, pod: Pod | None, error: CloudError) -> Step:
        """The machine goes on costing money, and only a person may be able to change that: say it where people look."""
        delay_s = rest_s(error)
        self._tools.rests.begin(ending(cell), delay_s)
        what = (
            f"instance {cell.instance_id} is not ended" if cell.instance_id else "not looked for an instance"
        )
        message = f"{what}: {error.summary}"
        log.warning("cell not ended", cell=cell.name, error=str(error), retry_s=delay_s)
        if pod is not None:
            await self._tools.report.warning(pod, error.reason, message)
        else:
            await self._tools.report.cell_warning(cell, error.reason, message)
        now = self._tools.clock.now()
        return cell.set(TERMINATED, "Unknown", error.reason, message, now=now), Wait(delay_s, error.reason)

    async def _settle_pod(self, pod: Pod | None, goal: End) -> None:
        if pod is None:
            return
        if goal.remove_pod:
            await self._tools.report.remove(pod)
        elif goal.fail_pod:
            await self._tools.report.failed(pod, goal.reason, goal.message)
