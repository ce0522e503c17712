"""Stage: the instance is ended, and EC2 says so; then the Cell may go."""

from __future__ import annotations

from dataclasses import replace

from kip.cells.goal import End
from kip.cells.launcher import Launcher
from kip.cells.stages import Pod, Step, Tools
from kip.model.cell import TERMINATED, Cell
from kip.model.outcome import Stop, Wait

# TerminateInstances is accepted within a second; a look some seconds later is for the rare answer that got lost.
_LOOK_AGAIN_S = 2.0
_WAIT_GONE_S = 5.0


class Terminate:
    """→ Terminated, and the end of the Cell object."""

    def __init__(self, tools: Tools, launcher: Launcher) -> None:
        self._tools = tools
        self._launcher = launcher

    async def __call__(self, cell: Cell, pod: Pod | None, goal: End) -> Step:
        tools = self._tools
        # The kubelet must not go on writing a status for a pod whose machine is being taken away.
        await tools.links.drop(cell.name)
        if cell.intent is not None and cell.instance_id is None:
            cell = await self._find_launched(cell)
        instance_id = cell.instance_id
        if instance_id is not None:
            if not cell.conditions.get(TERMINATED):
                cell = cell.set(TERMINATED, "Unknown", goal.reason, goal.message, now=tools.clock.now())
                cell = await tools.cells.save(cell)
            if not tools.fleet.ended(cell):
                await tools.fleet.terminate([instance_id])
                if not await tools.fleet.wait_gone(instance_id, deadline_s=_WAIT_GONE_S):
                    return cell, Wait(_LOOK_AGAIN_S, "waiting for EC2 to end the instance")
        await self._settle_pod(pod, goal)
        await tools.cells.release(cell)
        return cell, Stop("the cell is gone")

    async def _find_launched(self, cell: Cell) -> Cell:
        """An intent without an answer: an instance may have been launched for it. What cannot be found now is found
        by the sweep, because no Cell will claim it."""
        instance = await self._launcher.resume(cell, None)
        if instance is None:
            return cell
        return replace(cell, instance_id=instance.id, address=instance.private_ip, zone=instance.zone)

    async def _settle_pod(self, pod: Pod | None, goal: End) -> None:
        if pod is None:
            return
        if goal.remove_pod:
            await self._tools.report.remove(pod)
        elif goal.fail_pod:
            await self._tools.report.failed(pod, goal.reason, goal.message)
