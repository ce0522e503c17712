"""Stage: the machine answers, shows who it is, and is told which pod it has."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from kip.cells.devices import Lacking, lacking
from kip.cells.goal import served
from kip.cells.link import Link
from kip.cells.relaunch import give_up
from kip.cells.seed import Seeder
from kip.cells.stages import Pod, Step, Tools, since_created_s
from kip.cells.volumewatch import VolumeWatch
from kip.model.annotations import HEALTHY_TIMEOUT
from kip.model.cell import CONNECTED, LAUNCHED, Cell
from kip.model.outcome import DONE, Wait

# A connection that is back within this time was never gone as far as the Cell's status is concerned: a fail-over
# reconnects a thousand cells within seconds, and two writes for each would be most of its work.
_BLIP_S = 15.0
# Before a machine is given up by a process that was not there while its time ran out.
_FAIR_TRY_S = 30.0

_WAITING = "WaitingForDevices"


def out_of_reach(tools: Tools, cell: Cell, pod: Pod) -> str | None:
    """Why the machine of a pod that has begun is given up, though EC2 says that it runs; None as long as it is not.

    Only for pods with the annotation: the machine may go on doing its work, and nobody else knows whether it does. A
    process that takes over begins to count anew.
    """
    link = tools.links.get(cell.name)
    if link is None or link.is_connected or link.instance_id != cell.instance_id or not served(cell, pod):
        return None
    timeout_s = tools.healthy_timeout_s(pod)
    away_s = tools.clock.monotonic() - link.since
    if timeout_s is None or away_s < timeout_s:
        return None
    return (
        f"no connection to the cell for {away_s:.0f} s, and {HEALTHY_TIMEOUT} allows {timeout_s:.0f} s: "
        f"{tools.links.trouble(link)}"
    )


class Connect:
    """Launched → Connected."""

    def __init__(
        self, tools: Tools, seeder: Seeder | None = None, volumes: VolumeWatch | None = None
    ) -> None:
        """`seeder` and `volumes` where there is an image cache."""
        self._tools = tools
        self._seeder = seeder
        self._volumes = volumes

    async def __call__(self, cell: Cell, pod: Pod) -> Step:
        tools = self._tools
        link = tools.links.ensure(cell, pod)
        if self._seeder is not None and not cell.pod_may_run:
            self._seeder.begin(pod)
        if link.state == "up":
            if self._volumes is not None and cell.cached_images:
                self._volumes.follow(pod, link)
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
        lack = None if cell.pod_may_run else lacking(pod, link.offered, link.device_trouble)
        if lack is not None:
            return await self._without_devices(cell, pod, link, lack)
        if self._seeder is not None and not cell.pod_may_run:
            cell = await self._seeder(cell, pod, link)
        if cell.host_key != link.host_key:
            cell = self._connected(replace(cell, host_key=link.host_key), "first contact")
            cell = await tools.cells.save(cell)
            tools.observe("reachable", since_created_s(pod, tools.clock, link.reached_at))
        if not await tools.links.show_pod(link):
            return cell, Wait(link.next_try_s(tools.clock), "redialling")
        tools.observe("connected", since_created_s(pod, tools.clock))
        return cell, DONE

    async def _without_devices(self, cell: Cell, pod: Pod, link: Link, lack: Lacking) -> Step:
        """Connected, but the pod would be refused: hold it back until its devices are there, for so long."""
        tools, message = self._tools, str(lack)
        if lack.trouble:
            await tools.report.problem(pod, _WAITING, message)
        else:
            await tools.report.progress(pod, _WAITING, message)
        now = tools.clock.now()
        cell = cell.set(CONNECTED, "True", _WAITING, message, now=now)
        timeout_s = tools.settings.devices_timeout_s
        due = (cell.conditions.since(CONNECTED) or now) + timedelta(seconds=timeout_s)
        left_s = max((due - now).total_seconds(), self._fair_try_s(link, timeout_s))
        if left_s > 0:
            return cell, Wait(left_s, f"{lack.resource} is not there yet")
        told = f"{message}, {timeout_s:g} s after the first contact. {lack.prerequisites}"
        return await give_up(tools, cell, pod, "NoDevices", told)

    async def _not_there(self, cell: Cell, pod: Pod, link: Link) -> Step:
        if not served(cell, pod):
            return await self._not_there_yet(cell, pod, link)
        tools = self._tools
        away_s = tools.clock.monotonic() - link.since
        again_s = link.next_try_s(tools.clock)
        timeout_s = tools.healthy_timeout_s(pod)
        if timeout_s is not None:
            again_s = min(again_s, max(timeout_s - away_s, 0.05))
        if away_s < _BLIP_S:
            return cell, Wait(min(_BLIP_S - away_s, again_s), "redialling")
        if cell.conditions.is_true(CONNECTED):
            trouble = tools.links.trouble(link)
            message = f"no connection to the cell for {away_s:.0f} s; the pod goes on running: {trouble}"
            cell = cell.set(CONNECTED, "False", "ConnectionLost", message, now=tools.clock.now())
            await tools.report.warning(pod, "ConnectionLost", message)
        return cell, Wait(again_s, "redialling")

    async def _not_there_yet(self, cell: Cell, pod: Pod, link: Link) -> Step:
        """A machine whose pod has not begun may be given up, if this process too has tried for a while."""
        tools = self._tools
        timeout_s = tools.settings.connect_timeout_s
        since, after = LAUNCHED, f"its launch: {tools.links.trouble(link)}"
        if cell.conditions.is_true(CONNECTED):
            timeout_s = tools.settings.start_timeout_s
            since, after = CONNECTED, f"the first contact: {tools.links.trouble(link)}"
        now = tools.clock.now()
        due = (cell.conditions.since(since) or now) + timedelta(seconds=timeout_s)
        left_s = max((due - now).total_seconds(), self._fair_try_s(link, timeout_s))
        if left_s > 0:
            return cell, Wait(min(left_s, link.next_try_s(tools.clock)), "dialling")
        message = f"no SSH connection to {cell.address} within {timeout_s:g} s of {after}"
        return await give_up(tools, cell, pod, "CellUnreachable", message)

    def _fair_try_s(self, link: Link, timeout_s: float) -> float:
        """What is left of the time that this process takes before it gives a machine up."""
        return min(_FAIR_TRY_S, timeout_s) - (self._tools.clock.monotonic() - link.since)

    def _connected(self, cell: Cell, message: str) -> Cell:
        connected = cell.conditions.get(CONNECTED)
        if connected is not None and connected.is_true and connected.reason != _WAITING:
            return cell
        return cell.set(CONNECTED, "True", "Connected", message, now=self._tools.clock.now())
