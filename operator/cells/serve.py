"""Stage: the cell's kubelet has asked for its pod, and runs it."""

from __future__ import annotations

from datetime import timedelta

from kip.cells.goal import served
from kip.cells.link import Link
from kip.cells.relaunch import give_up
from kip.cells.stages import Pod, Step, Tools, since_created_s
from kip.model.cell import CONNECTED, SERVING, Cell
from kip.model.outcome import DONE, Wait

# A kubelet that runs asks within a second of the API's coming back (client-go's reflector waits at most 30 s).
_FAIR_WAIT_S = 35.0


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
        if served(cell, pod) or (link is not None and link.kubelet_asked):
            await tools.report.solved(pod)
            await tools.report.progress(
                pod, "CellReady", f"instance {cell.instance_id} ({cell.instance_type}) took the pod"
            )
            tools.observe("shown", since_created_s(pod, tools.clock))
            return cell.set(
                SERVING, "True", "KubeletConnected", "the cell's kubelet serves the pod", now=now
            ), DONE
        timeout_s = tools.settings.start_timeout_s
        due = (cell.conditions.since(CONNECTED) or now) + timedelta(seconds=timeout_s)
        left_s = max((due - now).total_seconds(), self._fair_wait_s(link))
        if left_s > 0:
            return cell, Wait(left_s, "the kubelet has not asked yet")
        message = f"the cell's kubelet did not ask for its pod within {timeout_s:g} s"
        return await give_up(tools, cell, pod, "KubeletSilent", message)

    def _fair_wait_s(self, link: Link | None) -> float:
        """After this process has connected the kubelet gets some time, even if its own ran out while nobody listened."""
        if link is None or link.connected_at is None:
            return 0.0
        fair_s = min(_FAIR_WAIT_S, self._tools.settings.start_timeout_s)
        return fair_s - (self._tools.clock.monotonic() - link.connected_at)
