"""ClusterIP Services on the cells: one ruleset, computed here once, brought to every cell as it changes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from kip.model.clock import Clock
from kip.services.changes import Flow, delta, stale_flows
from kip.services.model import service_from, slice_from
from kip.services.ruleset import Ruleset, compute, render

log = structlog.get_logger(__name__)

# A rollout changes endpoints many times a second; a cell may lag behind by this much, as kube-proxy does (its default
# minSyncPeriod is 1 s).
_GATHER_S = 0.2

# Versions whose ended flows are remembered, for cells that lag behind: while a rollout goes on, some seconds.
_REMEMBERED = 64

Objects = Callable[[], Sequence[dict[str, Any]]]


@dataclass(frozen=True)
class Supply:
    """What to give a cell so that it has version `version` of the rules."""

    version: int
    text: str
    """For `nft -f -`."""
    stale_flows: tuple[Flow, ...] | None
    """UDP flows to end. None if they are not known, because nobody knows what the cell had before: then all that lead
    to a Service."""


class ServiceRules:
    """The rules in versions: a cell that has the one before gets the difference, any other cell the whole."""

    def __init__(self, services: Objects, endpoint_slices: Objects, clock: Clock) -> None:
        self._services = services
        self._slices = endpoint_slices
        self._clock = clock
        self._stale = asyncio.Event()
        self._rules: Ruleset | None = None
        self._version = 0
        self._whole: str | None = None
        self._change: Supply | None = None
        self._ended: deque[tuple[int, tuple[Flow, ...]]] = deque(maxlen=_REMEMBERED)
        """Versions, and the flows that became stale with each; the newest last, without a gap."""

    def changed(self) -> None:
        """A Service or EndpointSlice changed."""
        self._stale.set()

    def supply(self, has: int | None) -> Supply | None:
        """What a cell needs that has version `has` (None: nothing); None if it has the newest."""
        if self._rules is None:
            self._publish(self._compute())
        if has == self._version:
            return None
        if self._change is not None and has == self._version - 1:
            return self._change
        if self._whole is None and self._rules is not None:
            self._whole = render(self._rules)
        return Supply(self._version, self._whole or "", self._stale_since(has))

    async def run(self, bring: Callable[[], Awaitable[None]]) -> None:
        """For ever: publish what changed, and call `bring`, which is to supply all cells."""
        while True:
            await self._stale.wait()
            await self._clock.sleep(_GATHER_S)
            self._stale.clear()
            rules = self._compute()
            if rules != self._rules:
                self._publish(rules)
                await bring()

    def _compute(self) -> Ruleset:
        return compute(
            filter(None, map(service_from, self._services())), filter(None, map(slice_from, self._slices()))
        )

    def _publish(self, rules: Ruleset) -> None:
        before, self._rules = self._rules, rules
        self._version += 1
        self._whole = None
        if before is not None:
            ended = stale_flows(before, rules)
            self._ended.append((self._version, ended))
            self._change = Supply(self._version, delta(before, rules), ended)

    def _stale_since(self, version: int | None) -> tuple[Flow, ...] | None:
        """What a cell that had this version may still have; None if that is not known."""
        if version is None or not self._ended or version + 1 < self._ended[0][0]:
            return None
        later = (flow for number, ended in self._ended if number > version for flow in ended)
        return tuple(dict.fromkeys(later))
