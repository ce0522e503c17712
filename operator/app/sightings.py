"""What the watches see goes into the stores, and what changed is marked for work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from kip.cells.repository import Cells
from kip.context import Object
from kip.kube.client import ApiClient
from kip.kube.errors import KubeError
from kip.kube.store import PodStore
from kip.kube.watch import list_all
from kip.model.clock import Clock
from kip.node.keeper import NodeKeeper
from kip.pods.finished import is_finished

log = structlog.get_logger(__name__)

# kopf loses a deletion that falls between two lists (a watch that ends with 410); a list of our own finds it.
RESYNC_S = 60.0
_FIRST_S = 5.0
_AGAIN_S = 10.0


class Observer:
    """Fills the stores from kopf's watches, and from a slow list that heals what those have missed."""

    def __init__(
        self,
        client: ApiClient,
        clock: Clock,
        *,
        node_name: str,
        pods: PodStore,
        cells: Cells,
        keeper: NodeKeeper,
        mark: Callable[[str], None],
        ended_pod_gone: Callable[[str], None],
    ) -> None:
        """`ended_pod_gone` hears the UID of a pod that had ended and now is deleted: nobody will ask for its logs."""
        self._client = client
        self._clock = clock
        self._node_name = node_name
        self._pods = pods
        self._cells = cells
        self._keeper = keeper
        self._mark = mark
        self._wake = asyncio.Event()
        self._ended_pod_gone = ended_pod_gone

    def pod(self, kind: str | None, obj: Object) -> None:
        uid = obj["metadata"]["uid"]
        if kind == "DELETED":
            self._pods.remove(obj)
            if is_finished(obj):
                self._ended_pod_gone(uid)
        else:
            self._pods.put(obj)
        self._mark(uid)

    def cell(self, kind: str | None, obj: Object) -> None:
        if kind == "DELETED":
            self._mark(self._cells.forget(obj))
        else:
            cell = self._cells.see(obj)
            if cell is not None:
                self._mark(cell.pod_uid)

    def node(self, kind: str | None, obj: Object) -> None:
        self._keeper.seen(None if kind == "DELETED" else obj)

    async def resync(self) -> None:
        """List everything, and look at all of it once; raises KubeError."""
        listed = await list_all(
            self._client, "/api/v1/pods", {"fieldSelector": f"spec.nodeName={self._node_name}"}
        )
        self._pods.replace(listed.items, listed.resource_version)
        cells = await self._cells.refresh()
        for uid in {p["metadata"]["uid"] for p in self._pods.items()} | {c.pod_uid for c in cells}:
            self._mark(uid)

    def poke(self) -> None:
        """The watches may have missed something: resync soon."""
        self._wake.set()

    async def run(self) -> None:
        """Resync for ever; first soon, for what was deleted before the watches had begun."""
        pause_s = _FIRST_S
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            self._wake.clear()
            pause_s = RESYNC_S
            try:
                await self.resync()
            except KubeError as error:
                log.warning("resync failed", error=str(error))
                pause_s = _AGAIN_S
