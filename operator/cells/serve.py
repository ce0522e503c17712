"""Stage: the cell's kubelet has asked for its pod, and runs it."""

from __future__ import annotations

from datetime import timedelta

from kip.cells.relaunch import give_up
from kip.cells.stages import Pod, Step, Tools, since_created_s
from kip.model.cell import CONNECTED, SERVING, Cell
from kip.model.outcome import DONE, Wait


class Serve:
    """Connected → Serving."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def __call__(self, cell: Cell, pod: Pod) -> Step:
        tools = self._tools
        if cell.conditions.is_true(SERVING):
            return cell, DONE
        link = tools.links.get(cell.name)
        now = tools.clock.now()
        if link is not None and link.kubelet_asked:
            await tools.report.solved(pod)
            await tools.report.progress(
                pod, "CellReady", f"instance {cell.instance_id} ({cell.instance_type}) took the pod"
            )
            tools.observe("shown", since_created_s(pod, tools.clock))
            return cell.set(
                SERVING, "True", "KubeletConnected", "the cell's kubelet serves the pod", now=now
            ), DONE
        connected = cell.conditions.since(CONNECTED) or now
        left = connected + timedelta(seconds=tools.settings.start_timeout_s) - now
        if left > timedelta(0):
            return cell, Wait(left.total_seconds(), "the kubelet has not asked yet")
        message = f"the cell's kubelet did not ask for its pod within {tools.settings.start_timeout_s:g} s"
        return await give_up(tools, cell, pod, "KubeletSilent", message)
