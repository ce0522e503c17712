"""Stage: what must outlive the machine is taken from it."""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from kip.cells.goal import End, served
from kip.cells.stages import Pod, Step, Tools
from kip.model.cell import DRAINED, Cell
from kip.model.outcome import DONE, Wait

log = structlog.get_logger(__name__)

# A thousand Jobs may end in one second; their logs (cells.keptLogs.maxSize each, 1 MiB if not set) pass through memory.
_KEEPING_AT_ONCE = 16


class LogKeeper(Protocol):
    """Keeps the logs of ended pods (kip.kubelet)."""

    async def keep(self, pod: Pod) -> str:
        """Fetch and store the logs of all the pod's containers; returns what was kept, for people."""
        ...


class Drain:
    """Serving → Drained, for a pod that has ended and whose object stays."""

    def __init__(self, tools: Tools, keeper: LogKeeper) -> None:
        self._tools = tools
        self._keeper = keeper
        self._slots = asyncio.Semaphore(_KEEPING_AT_ONCE)

    async def __call__(self, cell: Cell, pod: Pod | None, goal: End) -> Step:
        if cell.conditions.get(DRAINED) is not None:
            return cell, DONE
        if pod is None or not goal.keep_logs or not served(cell, pod):
            return self._drained(cell, goal.reason, goal.message), DONE
        gone = self._tools.fleet.why_gone(cell)
        if gone is not None:
            return await self._lost(cell, pod, f"the machine is gone: {gone}"), DONE
        link = self._tools.links.ensure(cell, pod)
        if link.state != "up":
            # A process that comes back to an ended pod has to connect first.
            left_s = self._tools.settings.drain_timeout_s - (self._tools.clock.monotonic() - link.since)
            if left_s > 0:
                return cell, Wait(min(left_s, link.next_try_s(self._tools.clock)), "dialling for the logs")
            return await self._lost(cell, pod, self._tools.links.trouble(link)), DONE
        return await self._keep(cell, pod, goal), DONE

    async def _keep(self, cell: Cell, pod: Pod, goal: End) -> Cell:
        try:
            async with self._slots, asyncio.timeout(self._tools.settings.drain_timeout_s):
                kept = await self._keeper.keep(pod)
        except Exception as error:
            # Logs are worth a delay, not a machine that runs for ever.
            return await self._lost(cell, pod, f"{type(error).__name__}: {error}".removesuffix(": "))
        return self._drained(cell, goal.reason, f"{goal.message}; {kept}")

    def _drained(self, cell: Cell, reason: str, message: str) -> Cell:
        return cell.set(DRAINED, "True", reason, message, now=self._tools.clock.now())

    async def _lost(self, cell: Cell, pod: Pod, why: str) -> Cell:
        log.warning("logs not kept", cell=cell.name, error=why)
        await self._tools.report.warning(pod, "LogsNotKept", f"the pod's logs end with its machine: {why}")
        return cell.set(DRAINED, "False", "LogsNotKept", why, now=self._tools.clock.now())
