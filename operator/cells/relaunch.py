"""Giving a machine up: it is ended first, then forgotten, then another attempt may begin."""

from __future__ import annotations

import structlog

from kip.cells.refusal import rest_s
from kip.cells.stages import Pod, Step, Tools
from kip.cloud.errors import CloudError
from kip.model.cell import LAUNCHED, Cell
from kip.model.outcome import Wait

log = structlog.get_logger(__name__)


async def give_up(tools: Tools, cell: Cell, pod: Pod, reason: str, message: str) -> Step:
    """End the cell's instance, tell why, and begin again: at once for the first attempts, slowly after that.

    Nothing is forgotten before EC2 has accepted the end of the instance. Raises KubeError.
    """
    left_s = tools.rests.left_s(ending(cell))
    if left_s > 0:
        return cell, Wait(left_s, "resting after a refusal of EC2")
    await tools.links.drop(cell.name)
    if cell.instance_id is not None and not tools.fleet.ended(cell):
        try:
            await tools.fleet.terminate([cell.instance_id])
        except CloudError as error:
            return await _kept(tools, cell, pod, message, error)
    told = f"attempt {cell.attempt + 1}: {message}" if tools.settings.max_attempts > 1 else message
    await tools.report.problem(pod, reason, told)
    tools.count_given_up(reason)
    cell = cell.given_up(now=tools.clock.now(), reason=reason, message=told)
    return cell, Wait(retry_delay_s(tools, cell), reason)


async def _kept(tools: Tools, cell: Cell, pod: Pod, why: str, error: CloudError) -> Step:
    """The machine is of no use and cannot be ended: say it. It stays launched, or it would be forgotten."""
    message = f"{why}; instance {cell.instance_id} is not ended: {error.summary}"
    delay_s = rest_s(error)
    tools.rests.begin(ending(cell), delay_s)
    log.warning("machine not given up", cell=cell.name, error=str(error), retry_s=delay_s)
    await tools.report.problem(pod, error.reason, message)
    cell = cell.set(LAUNCHED, "True", error.reason, message, now=tools.clock.now())
    return cell, Wait(delay_s, error.reason)


def ending(cell: Cell) -> str:
    """What rests when EC2 has refused to end the cell's instance."""
    return f"end of {cell.name}"


def retry_delay_s(tools: Tools, cell: Cell) -> float:
    """Seconds until the next machine may be tried for a cell that has used up `cell.attempt` of them."""
    return 1.0 if cell.attempt < tools.settings.max_attempts else tools.settings.retry_s
