"""The Cells of one virtual node: known by their pod's UID, written with optimistic concurrency.

Every write carries the resourceVersion it is based on. The one process that holds the node's Lease never conflicts
with itself; one that has lost the Lease without knowing yet is refused by the API server.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import structlog

from kip.kube.client import ApiClient
from kip.kube.errors import Conflict, NotFound, Unavailable
from kip.kube.watch import list_all
from kip.model.cell import Cell, new_cell_object
from kip.model.names import CELL_FINALIZER, GROUP, VERSION, cell_name

log = structlog.get_logger(__name__)

# Of the Cells that were released, by UID. News of them comes within seconds, if at all.
_REMEMBERED = 4096

CELLS_PATH = f"/apis/{GROUP}/{VERSION}/cells"


class Cells:
    """What is known of the Cells, and the writes to them."""

    def __init__(
        self,
        client: ApiClient,
        node: str,
        *,
        seen: Callable[[Cell], None] = lambda cell: None,
        gone: Callable[[Cell], None] = lambda cell: None,
    ) -> None:
        """`seen` hears of every new version of a Cell, `gone` of each that is no more."""
        self._client = client
        self._node = node
        self._seen = seen
        self._gone = gone
        self._by_pod: dict[str, Cell] = {}
        self._by_token: dict[str, set[str]] = {}
        self._released: dict[str, None] = {}
        self.unreadable: set[str] = set()
        """Names of Cells that could not be made sense of: whose instances they have is not known."""
        self.synced = False

    @property
    def selector(self) -> dict[str, str]:
        """Query parameters that select this node's Cells."""
        return {"labelSelector": f"{GROUP}/node={self._node}"}

    def get(self, pod_uid: str) -> Cell | None:
        return self._by_pod.get(pod_uid)

    def all(self) -> list[Cell]:
        return list(self._by_pod.values())

    def holders(self, client_token: str) -> Collection[str]:
        """UIDs of the Cells whose intent has this client token."""
        return self._by_token.get(client_token, frozenset())

    def _keep(self, cell: Cell) -> None:
        before = self._take_out(cell.pod_uid)
        if before is not None and before.uid != cell.uid:
            self._gone(before)
        self._by_pod[cell.pod_uid] = cell
        if cell.intent is not None:
            self._by_token.setdefault(cell.intent.client_token, set()).add(cell.uid)
        self._seen(cell)

    def _drop(self, pod_uid: str) -> None:
        cell = self._take_out(pod_uid)
        if cell is not None:
            self._gone(cell)

    def _take_out(self, pod_uid: str) -> Cell | None:
        cell = self._by_pod.pop(pod_uid, None)
        if cell is None or cell.intent is None:
            return cell
        holders = self._by_token[cell.intent.client_token]
        holders.discard(cell.uid)
        if not holders:
            del self._by_token[cell.intent.client_token]
        return cell

    def put(self, obj: Mapping[str, Any]) -> Cell:
        """Take an object that was read or written, unless a newer version is known."""
        cell = Cell.from_object(obj)
        if cell.uid in self._released:
            return cell  # old news of what we have just taken away ourselves
        known = self._by_pod.get(cell.pod_uid)
        if (
            known is not None
            and known.uid == cell.uid
            and int(known.resource_version) >= int(cell.resource_version)
        ):
            return known
        self._keep(cell)
        self.unreadable.discard(cell.name)
        return cell

    def see(self, obj: Mapping[str, Any]) -> Cell | None:
        """As `put`, for objects that others may have written; None for one that is no Cell of ours."""
        try:
            return self.put(obj)
        except (KeyError, TypeError, ValueError) as error:
            name = obj["metadata"]["name"]
            log.error("cell cannot be read", cell=name, error=f"{type(error).__name__}: {error}")
            self.unreadable.add(name)
            return None

    def forget(self, obj: Mapping[str, Any]) -> str:
        """The object is gone; returns its pod's UID."""
        self.unreadable.discard(obj["metadata"]["name"])
        pod_uid = str((obj.get("spec") or {}).get("podUID"))
        known = self._by_pod.get(pod_uid)
        if known is not None and known.uid == obj["metadata"]["uid"]:
            self._drop(pod_uid)
        return pod_uid

    async def refresh(self) -> list[Cell]:
        """Ask the API server for all of them; what it no longer has is forgotten. Returns the list."""
        before = set(self._by_pod)
        try:
            listed = await list_all(self._client, CELLS_PATH, self.selector)
        except NotFound as error:
            raise Unavailable(
                f"the API server serves no {GROUP}/{VERSION} cells: is their CustomResourceDefinition installed?"
            ) from error
        self.unreadable &= {obj["metadata"]["name"] for obj in listed.items}
        cells = [cell for obj in listed.items if (cell := self.see(obj)) is not None]
        for pod_uid in before - {c.pod_uid for c in cells}:
            known = self._by_pod.get(pod_uid)
            if known is None or known.name in self.unreadable:
                continue
            if int(known.resource_version) <= int(listed.resource_version):
                self._drop(pod_uid)
        self.synced = True
        return cells

    async def create(self, pod: Mapping[str, Any]) -> Cell | None:
        """The pod's Cell, made now or found: from here on an instance may be asked for. None if it cannot be read."""
        try:
            return self.see(await self._client.create(CELLS_PATH, new_cell_object(pod)))
        except Conflict:
            name = cell_name(pod["metadata"]["uid"])
            return self.see(await self._client.get(f"{CELLS_PATH}/{name}"))

    async def save(self, cell: Cell) -> Cell:
        """Write the whole status; raises Conflict if the object changed meanwhile, NotFound if it is gone."""
        patch = {"metadata": {"resourceVersion": cell.resource_version}, "status": cell.status()}
        return self.put(await self._client.patch(f"{CELLS_PATH}/{cell.name}/status", patch))

    async def release(self, cell: Cell) -> None:
        """Nothing of the cell is left in AWS: take the finalizer off and delete the object."""
        try:
            if not cell.deleting:
                await self._client.delete(
                    f"{CELLS_PATH}/{cell.name}",
                    {"preconditions": {"uid": cell.uid}, "propagationPolicy": "Background"},
                )
            current = await self._client.get(f"{CELLS_PATH}/{cell.name}")
            if current["metadata"]["uid"] == cell.uid:
                kept = [f for f in current["metadata"].get("finalizers") or () if f != CELL_FINALIZER]
                version = current["metadata"]["resourceVersion"]
                await self._client.patch(
                    f"{CELLS_PATH}/{cell.name}",
                    {"metadata": {"resourceVersion": version, "finalizers": kept}},
                )
        except NotFound:
            pass
        known = self._by_pod.get(cell.pod_uid)
        if known is not None and known.uid == cell.uid:
            self._drop(cell.pod_uid)
        self._released[cell.uid] = None
        if len(self._released) > _REMEMBERED:
            del self._released[next(iter(self._released))]

    def claimed_instances(self, cells: Iterable[Cell]) -> tuple[frozenset[str], frozenset[str]]:
        """(instance IDs, client tokens of launches that are not answered yet) that belong to these Cells."""
        return (
            frozenset(c.instance_id for c in cells if c.instance_id),
            frozenset(c.intent.client_token for c in cells if c.intent and not c.instance_id),
        )
