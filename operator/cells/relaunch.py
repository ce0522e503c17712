"""Giving a machine up: it is ended first, then forgotten, then another attempt may begin."""

from __future__ import annotations

from kip.cells.stages import Pod, Step, Tools
from kip.model.cell import Cell
from kip.model.outcome import Wait


async def give_up(tools: Tools, cell: Cell, pod: Pod, reason: str, message: str) -> Step:
    """End the cell's instance, tell why, and begin again: at once for the first attempts, slowly after that.

    Raises CloudError or KubeError; nothing is forgotten before EC2 has accepted the end of the instance.
    """
    await tools.links.drop(cell.name)
    if cell.instance_id is not None:
        await tools.fleet.terminate([cell.instance_id])
    told = f"attempt {cell.attempt + 1}: {message}" if tools.settings.max_attempts > 1 else message
    await tools.report.problem(pod, reason, told)
    cell = cell.given_up(now=tools.clock.now(), reason=reason, message=told)
    return cell, Wait(retry_delay_s(tools, cell), reason)


def retry_delay_s(tools: Tools, cell: Cell) -> float:
    """Seconds until the next machine may be tried for a cell that has used up `cell.attempt` of them."""
    return 1.0 if cell.attempt < tools.settings.max_attempts else tools.settings.retry_s
