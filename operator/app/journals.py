"""Commands on cells for people who look for what is wrong with one: over the connection that is there anyway."""

from __future__ import annotations

import asyncio

from kip.cells.links import Links
from kip.cells.repository import Cells
from kip.kubelet.http1 import HttpError
from kip.tunnel.errors import TunnelError
from kip.tunnel.pool import TunnelPool

# Each holds up to a megabyte, and its cell has better things to do.
_AT_ONCE = 4


class CellJournals:
    """`kip.kubelet.systemlogs.SystemLogs` over SSH.

    The connection counts as soon as it is open: what is wrong with a machine that does not become a cell is in its
    journal too.
    """

    def __init__(self, cells: Cells, pool: TunnelPool, links: Links) -> None:
        self._cells = cells
        self._pool = pool
        self._links = links
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def run(self, cell: str, command: str, *, most_bytes: int, timeout_s: float) -> bytes:
        if not self._cells.synced:
            raise HttpError(503, "the node's cells are not known yet: its process has just begun; try again")
        if all(known.name != cell for known in self._cells.all()):
            raise HttpError(404, f"there is no cell {cell} of this node")
        tunnel = self._pool.get(cell)
        if tunnel is None:
            link = self._links.get(cell)
            why = self._links.trouble(link) if link is not None else "it has no machine"
            raise HttpError(502, f"cell {cell}: no connection: {why}")
        try:
            async with asyncio.timeout(timeout_s), self._slots:
                return await tunnel.run(command, timeout_s=timeout_s, most_bytes=most_bytes)
        except TimeoutError as error:
            raise HttpError(502, f"cell {cell}: too many ask for logs; try again") from error
        except TunnelError as error:
            raise HttpError(502, f"cell {cell}: {error}") from error
