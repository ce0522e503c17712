"""What EC2 last said about this node's instances: looked at in sweeps, never per cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from kip.cloud.base import ALL_STATES, Compute, Instance
from kip.model.cell import LAUNCHED, Cell
from kip.model.clock import Clock

# EC2 is eventually consistent: an instance may be missing from DescribeInstances for some seconds after its launch. AWS
# gives no number; its own tools retry for minutes. An instance still missing this long after its launch is gone.
_MISSING_AFTER_S = 120.0
# TerminateInstances usually shows at the first look.
_LOOK_AGAIN_S = 0.5
# EC2 shows what was terminated for an hour: after a rush of jobs most of a listing. What is missing is asked for by ID.
_LISTED = ALL_STATES - {"terminated"}


class Fleet:
    """The instances that carry this node's tags or belong to its Cells.

    What is known is replaced only as a whole, by `confirm`: a listing alone says nothing about what it does not show.
    """

    def __init__(self, compute: Compute, clock: Clock, *, tags: Mapping[str, str]) -> None:
        self._compute = compute
        self._clock = clock
        self._tags = dict(tags)
        self._instances: dict[str, Instance] = {}
        self._unknown: dict[str, datetime] = {}
        """IDs that EC2 did not know when it was asked for just them, and when that was."""
        self._news: dict[str, Instance] = {}
        """What was heard of single instances since the last sweep began."""

    async def sweep(self) -> list[Instance]:
        """One filtered, paged DescribeInstances, without terminated instances; raises CloudError."""
        self._news = {}
        return await self._compute.describe(tags=self._tags, states=_LISTED)

    async def confirm(self, listed: Iterable[Instance], cells: Iterable[Cell]) -> None:
        """After a sweep: ask by ID for what it did not show of these cells; raises CloudError, and then all stays as it was.

        A pod's machine is not given up because somebody took its tags away, or because one answer was incomplete.
        """
        known = {i.id: i for i in listed} | self._news
        missing = [c.instance_id for c in cells if c.instance_id and c.instance_id not in known]
        found = {i.id: i for i in await self._compute.describe_ids(missing)} if missing else {}
        self._instances = known | found | self._news
        now = self._clock.now()
        self._unknown = {id_: now for id_ in missing if id_ not in self._instances}

    async def look_at(self, instance_id: str) -> Instance | None:
        """Ask about one instance now (calls of many cells are batched below); raises CloudError."""
        found = await self._compute.describe_ids([instance_id])
        for instance in found:
            self.note(instance)
        if not found:
            self._unknown[instance_id] = self._clock.now()
        return found[0] if found else None

    def note(self, instance: Instance) -> None:
        """Remember what EC2 has just said of one instance, as when it launched it, before any sweep can have seen it."""
        self._instances[instance.id] = self._news[instance.id] = instance
        self._unknown.pop(instance.id, None)

    def instance(self, cell: Cell) -> Instance | None:
        """The cell's instance as EC2 last told of it; None if it has not."""
        return self._instances.get(cell.instance_id or "")

    def why_gone(self, cell: Cell) -> str | None:
        """Why nothing runs on the cell's instance any more; None while something may.

        A stopped instance counts: AWS stops machines that it retires, and a pod would wait on it for ever.
        """
        if cell.instance_id is None:
            return None
        known = self._instances.get(cell.instance_id)
        if known is not None and known.stopped:
            return (
                f"it is {known.state}: {known.state_reason}" if known.state_reason else f"it is {known.state}"
            )
        if known is not None and known.gone:
            return known.state_reason or f"it is {known.state}"
        return "EC2 no longer knows it" if self._forgotten(cell) else None

    def ended(self, cell: Cell) -> bool:
        """True only if EC2 itself has said that the cell's instance is ending, or that there is no such instance."""
        known = self._instances.get(cell.instance_id or "")
        return known.gone if known is not None else self._forgotten(cell)

    def _forgotten(self, cell: Cell) -> bool:
        """EC2, asked for this very instance, did not know it, long enough after its launch."""
        if cell.instance_id is None or cell.instance_id in self._instances:
            return False
        asked = self._unknown.get(cell.instance_id)
        return asked is not None and (asked - _launched_at(cell)).total_seconds() > _MISSING_AFTER_S

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


def _launched_at(cell: Cell) -> datetime:
    """When EC2 told of the instance. A call that is refused may be repeated for minutes after its intent was written."""
    launched = cell.conditions.get(LAUNCHED)
    if launched is not None and launched.is_true:
        return launched.last_transition
    return cell.intent.requested_at if cell.intent else cell.created
