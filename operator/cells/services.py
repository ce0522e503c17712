"""ClusterIP Services on the cells: one ruleset, computed here, brought to every cell when it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from kip.cells.links import Links
from kip.model.clock import Clock

log = structlog.get_logger(__name__)

# A rollout changes endpoints many times a second; a cell may lag behind by this much, as kube-proxy does (its default
# minSyncPeriod is 1 s).
_GATHER_S = 0.2

Objects = Callable[[], Sequence[dict[str, Any]]]


class ServiceRules:
    """Keeps the ruleset current and the cells supplied."""

    def __init__(
        self,
        render: Callable[[Sequence[dict[str, Any]], Sequence[dict[str, Any]]], str],
        services: Objects,
        endpoint_slices: Objects,
        clock: Clock,
    ) -> None:
        self._render = render
        self._services = services
        self._slices = endpoint_slices
        self._clock = clock
        self._stale = asyncio.Event()
        self._text: str | None = None

    def changed(self) -> None:
        """A Service or EndpointSlice changed."""
        self._stale.set()

    def current(self) -> str:
        """The ruleset as of now."""
        if self._text is None or self._stale.is_set():
            self._text = self._render(self._services(), self._slices())
        return self._text

    async def run(self, links: Links) -> None:
        """Bring each change to all cells, for ever."""
        while True:
            await self._stale.wait()
            await self._clock.sleep(_GATHER_S)
            before = self._text
            text = self._render(self._services(), self._slices())
            self._text = text
            self._stale.clear()
            if text != before:
                await links.push_services(text)
