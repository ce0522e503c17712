"""Puts on instances what the tags of their launch could not say, because all of a batch have those."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import structlog

from kip.cells.fleet import Fleet
from kip.cells.repository import Cells
from kip.cells.stages import Pod
from kip.cells.tags import lacking
from kip.cloud.base import Compute
from kip.cloud.errors import CloudError, NotAuthorized, Throttled, Unreachable
from kip.model.clock import Clock

log = structlog.get_logger(__name__)

# Nobody waits for them; and the pods of a batch have come by then.
_PERIOD_S = 30.0
# What EC2 takes in one call is 1000.
_AT_ONCE = 500


class Pods(Protocol):
    """The pods of this virtual node."""

    def get(self, uid: str) -> Mapping[str, Any] | None: ...


class Tagger:
    """Compares what each instance has with what its pod asks for, now and then; remembers only what need not be repeated."""

    def __init__(
        self,
        compute: Compute,
        fleet: Fleet,
        cells: Cells,
        pods: Pods,
        clock: Clock,
        *,
        wanted: Callable[[Pod], Mapping[str, str]],
    ) -> None:
        self._compute = compute
        self._fleet = fleet
        self._cells = cells
        self._pods = pods
        self._clock = clock
        self._wanted = wanted
        self._given: dict[str, dict[str, str]] = {}
        """By instance: what this process has put on it. EC2 shows it some time later."""

    async def run(self) -> None:
        """For as long as it is allowed: tags are of use to people only, so that nothing else depends on them."""
        while True:
            await self._clock.sleep(_PERIOD_S)
            try:
                await self.tag()
            except NotAuthorized as error:
                message = "instances launched together lack the tags in which their pods differ"
                log.warning(message, error=error.summary)
                return
            except CloudError as error:
                log.info("instances not tagged yet", error=str(error))

    async def tag(self) -> None:
        """One round; instances that lack the same share a call.

        Raises NotAuthorized, Throttled and Unreachable: then the rest waits for the next round.
        """
        groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
        live: set[str] = set()
        for instance_id, missing in self._missing(live):
            groups.setdefault(tuple(sorted(missing.items())), []).append(instance_id)
        self._given = {id_: tags for id_, tags in self._given.items() if id_ in live}
        for tags, ids in groups.items():
            for start in range(0, len(ids), _AT_ONCE):
                await self._tag(ids[start : start + _AT_ONCE], dict(tags))

    async def _tag(self, ids: list[str], tags: dict[str, str]) -> None:
        try:
            await self._compute.tag(ids, tags)
        except (NotAuthorized, Throttled, Unreachable):
            raise
        except CloudError as error:
            # One of them may be gone, or a tag not be allowed in this organisation: that keeps back no others.
            log.info("instances not tagged yet", instances=len(ids), error=str(error))
            return
        for id_ in ids:
            self._given.setdefault(id_, {}).update(tags)

    def _missing(self, live: set[str]) -> list[tuple[str, dict[str, str]]]:
        found = []
        for cell in self._cells.all():
            instance = self._fleet.instance(cell)
            pod = self._pods.get(cell.pod_uid)
            if instance is None or instance.gone or pod is None:
                continue
            live.add(instance.id)
            present = {**instance.tags, **self._given.get(instance.id, {})}
            if missing := lacking(present, self._wanted(pod)):
                found.append((instance.id, missing))
        return found
