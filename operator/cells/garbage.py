"""Both directions of loss, in one slow sweep: instances without a Cell, and Cells without an instance."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

import structlog

from kip.cells.fleet import Fleet
from kip.cells.repository import Cells
from kip.cloud.base import Instance
from kip.cloud.errors import CloudError
from kip.kube.errors import KubeError
from kip.model.cell import Cell
from kip.model.clock import Clock
from kip.model.giveway import GiveWay, at_once

log = structlog.get_logger(__name__)

# An instance can be lost or orphaned only by a crash or from outside; a spot notice gives two minutes.
SWEEP_S = 10.0


class Sweeper:
    """Ends instances that belong to nobody, and wakes cells whose instance has gone."""

    def __init__(
        self,
        fleet: Fleet,
        cells: Cells,
        clock: Clock,
        *,
        mark: Callable[[str], None],
        abandon: Callable[[Collection[Instance]], Awaitable[None]],
        give_way: GiveWay = at_once,
        period_s: float = SWEEP_S,
    ) -> None:
        """`abandon` hears of instances that belong to nobody before they are ended. `give_way` returns when there is time
        for a sweep, or soon: to read the listing of a thousand instances keeps the event loop for a second."""
        self._fleet = fleet
        self._cells = cells
        self._clock = clock
        self._mark = mark
        self._abandon = abandon
        self._give_way = give_way
        self._period_s = period_s

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            try:
                await self.sweep()
            except (CloudError, KubeError) as error:
                log.warning("sweep failed", error=str(error))
            await self._clock.sleep(self._period_s)
            await self._give_way()

    async def sweep(self) -> list[str]:
        """One sweep; the IDs of the instances that it had EC2 end.

        The instances are read first and the Cells afterwards, from the API server: every instance seen had its intent
        written to a Cell before it was launched, so one that no Cell claims now belonged to a Cell that has gone since.
        What cells have lost is told before anything is ended: a refusal to end one instance must not keep it back.
        """
        instances = await self._fleet.sweep()
        cells = await self._cells.refresh()
        await self._fleet.confirm(instances, cells)
        for cell in cells:
            if self._fleet.why_gone(cell) is not None or cell.deleting:
                self._mark(cell.pod_uid)
        orphans = self._orphans(instances, cells)
        if orphans:
            await self._abandon([i for i in instances if i.id in orphans])
        return await self._end(orphans)

    def _orphans(self, instances: list[Instance], cells: list[Cell]) -> list[str]:
        claimed, pending = self._cells.claimed_instances(cells)
        orphans = [
            i.id for i in instances if not i.gone and i.id not in claimed and i.client_token not in pending
        ]
        if orphans and self._cells.unreadable:
            # One of these may be the machine of a Cell that another version of Kip, or a person, has written.
            log.error(
                "instances belong to no cell, as far as cells can be read: left alone", instances=orphans
            )
            return []
        return orphans

    async def _end(self, orphans: list[str]) -> list[str]:
        """Each by itself, in one call below: what EC2 refuses to end is told and tried again by the next sweep."""
        if orphans:
            log.warning("ending instances that belong to no cell", instances=orphans)
        answers = await asyncio.gather(
            *(self._fleet.terminate([id_]) for id_ in orphans), return_exceptions=True
        )
        ended = []
        for instance_id, answer in zip(orphans, answers, strict=True):
            if answer is None:
                ended.append(instance_id)
            elif isinstance(answer, CloudError):
                log.error(
                    "an instance that belongs to no cell is not ended",
                    instance=instance_id,
                    error=str(answer),
                )
            else:
                raise answer
        return ended
