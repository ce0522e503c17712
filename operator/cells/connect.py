"""Stage: the machine answers, shows who it is, and is told which pod it has."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from kip.cells.links import Link
from kip.cells.relaunch import give_up
from kip.cells.stages import Pod, Step, Tools, since_created_s
from kip.model.cell import CONNECTED, LAUNCHED, Cell
from kip.model.outcome import DONE, Wait

# A connection that is back within this time was never gone as far as the Cell's status is concerned: a fail-over
# reconnects a thousand cells within seconds, and two writes for each would be most of its work.
_BLIP_S = 15.0


class Connect:
    """Launched → Connected."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def __call__(self, cell: Cell, pod: Pod) -> Step:
        tools = self._tools
        link = tools.links.ensure(cell, pod)
        if link.state == "up":
            return self._connected(cell, "the operator is connected to the cell"), DONE
        if link.state == "contacted":
            return await self._first_contact(cell, pod, link)
        return await self._not_there(cell, pod, link)

    async def _first_contact(self, cell: Cell, pod: Pod, link: Link) -> Step:
        """Record the cell's own host key; only then may the pod be shown, only then can it have run."""
        tools = self._tools
        if link.host_key is None:
            message = "the cell has made no host key of its own; its user data did not run to the end"
            return await give_up(tools, cell, pod, "BootFailed", message)
        cell = self._connected(replace(cell, host_key=link.host_key), "first contact")
        cell = await tools.cells.save(cell)
        await tools.links.show_pod(link)
        tools.observe("connected", since_created_s(pod, tools.clock))
        return cell, DONE

    async def _not_there(self, cell: Cell, pod: Pod, link: Link) -> Step:
        tools = self._tools
        now, trouble = tools.clock.now(), tools.links.trouble(link)
        if not cell.pod_may_run:
            launched = cell.conditions.since(LAUNCHED) or now
            left = launched + timedelta(seconds=tools.settings.connect_timeout_s) - now
            if left <= timedelta(0):
                message = f"no SSH connection to {cell.address} within {tools.settings.connect_timeout_s:g} s: {trouble}"
                return await give_up(tools, cell, pod, "CellUnreachable", message)
            return cell, Wait(min(left.total_seconds(), self._next_try(link)), "dialling")
        away_s = tools.clock.monotonic() - link.since
        if away_s < _BLIP_S:
            return cell, Wait(min(_BLIP_S - away_s, self._next_try(link)), "redialling")
        if cell.conditions.is_true(CONNECTED):
            message = f"no connection to the cell for {away_s:.0f} s; the pod goes on running: {trouble}"
            cell = cell.set(CONNECTED, "False", "ConnectionLost", message, now=now)
            await tools.report.warning(pod, "ConnectionLost", message)
        return cell, Wait(self._next_try(link), "redialling")

    def _connected(self, cell: Cell, message: str) -> Cell:
        if cell.conditions.is_true(CONNECTED):
            return cell
        return cell.set(CONNECTED, "True", "Connected", message, now=self._tools.clock.now())

    def _next_try(self, link: Link) -> float:
        """The link itself says when its state changes; a lost one must be asked for again."""
        if link.state != "lost":
            return 60.0
        return max(0.05, link.retry_at - self._tools.clock.monotonic())
