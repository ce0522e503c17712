"""Stage: what must outlive the machine is taken from it."""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from kip.cells.goal import End
from kip.cells.stages import Pod, Step, Tools
from kip.model.cell import DRAINED, SERVING, Cell
from kip.model.outcome import DONE

log = structlog.get_logger(__name__)


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

    async def __call__(self, cell: Cell, pod: Pod | None, goal: End) -> Step:
        if cell.conditions.get(DRAINED) is not None:
            return cell, DONE
        now = self._tools.clock.now()
        if pod is None or not goal.keep_logs or not cell.conditions.get(SERVING):
            return cell.set(DRAINED, "True", goal.reason, goal.message, now=now), DONE
        try:
            kept = await asyncio.wait_for(self._keeper.keep(pod), self._tools.settings.drain_timeout_s)
        except Exception as error:
            # Logs are worth a delay, not a machine that runs for ever.
            why = f"{type(error).__name__}: {error}".removesuffix(": ")
            log.warning("logs not kept", cell=cell.name, error=why)
            await self._tools.report.warning(
                pod, "LogsNotKept", f"the pod's logs end with its machine: {why}"
            )
            return cell.set(DRAINED, "False", "LogsNotKept", why, now=now), DONE
        return cell.set(DRAINED, "True", goal.reason, f"{goal.message}; {kept}", now=now), DONE
