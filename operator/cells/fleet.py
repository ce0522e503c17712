"""What EC2 last said about this node's instances: looked at in sweeps, never per cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

import structlog

from kip.cloud.base import Compute, Instance
from kip.model.cell import Cell
from kip.model.clock import Clock

log = structlog.get_logger(__name__)

# EC2 is eventually consistent: an instance may be missing from DescribeInstances for some seconds after its launch. AWS
# gives no number; its own tools retry for minutes. An instance still missing this long after its launch is gone.
_MISSING_AFTER_S = 120.0
# TerminateInstances usually shows at the first look.
_LOOK_AGAIN_S = 0.5


class Fleet:
    """The instances that carry this node's tags, as of the last sweep."""

    def __init__(self, compute: Compute, clock: Clock, *, tags: Mapping[str, str]) -> None:
        self._compute = compute
        self._clock = clock
        self._tags = dict(tags)
        self._instances: dict[str, Instance] = {}
        self._swept: datetime | None = None

    async def sweep(self) -> list[Instance]:
        """One filtered, paged DescribeInstances; raises CloudError."""
        instances = await self._compute.describe(tags=self._tags)
        self._instances = {i.id: i for i in instances}
        return instances

    async def confirm(self, cells: Iterable[Cell]) -> None:
        """After a sweep: ask by ID for what it did not show of these cells; raises CloudError.

        A pod's machine is not given up because somebody took its tags away, or because one answer was incomplete.
        """
        missing = [c.instance_id for c in cells if c.instance_id and c.instance_id not in self._instances]
        if missing:
            self._instances |= {i.id: i for i in await self._compute.describe_ids(missing)}
        self._swept = self._clock.now()

    async def look_at(self, instance_id: str) -> Instance | None:
        """Ask about one instance now (calls of many cells are batched below); raises CloudError."""
        found = await self._compute.describe_ids([instance_id])
        for instance in found:
            self._instances[instance.id] = instance
        return found[0] if found else None

    def note(self, instance: Instance) -> None:
        """Remember what a launch answered, before any sweep can have seen it."""
        self._instances[instance.id] = instance

    def why_gone(self, cell: Cell) -> str | None:
        """Why the cell's instance no longer exists; None while it does, or while that is not sure."""
        if cell.instance_id is None:
            return None
        known = self._instances.get(cell.instance_id)
        if known is not None:
            return (known.state_reason or f"it is {known.state}") if known.gone else None
        launched = cell.intent.requested_at if cell.intent else cell.created
        if self._swept is not None and (self._swept - launched).total_seconds() > _MISSING_AFTER_S:
            return "EC2 no longer knows it"
        return None

    async def terminate(self, instance_ids: list[str]) -> None:
        """Ask EC2 to end these; repeated until a look says that they are gone."""
        await self._compute.terminate(instance_ids)

    async def wait_gone(self, instance_id: str, *, deadline_s: float) -> bool:
        """True once EC2 says that the instance is ending or unknown; False after `deadline_s`."""
        until = self._clock.monotonic() + deadline_s
        while True:
            instance = await self.look_at(instance_id)
            if instance is None or instance.gone:
                return True
            if self._clock.monotonic() >= until:
                return False
            await self._clock.sleep(_LOOK_AGAIN_S)
