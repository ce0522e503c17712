"""Cells as the virtual node's kubelet API looks them up."""

from __future__ import annotations

from collections.abc import Iterator

from kip.cells.links import Links
from kip.cells.repository import Cells
from kip.cells.stages import Pod
from kip.kube.store import PodStore
from kip.kubelet.directory import Endpoint
from kip.kubelet.logs import KeptLogs
from kip.model.cell import Cell
from kip.pods.finished import has_started, is_finished


class Directory:
    """Answers from memory."""

    def __init__(self, cells: Cells, links: Links, pods: PodStore) -> None:
        self._cells = cells
        self._links = links
        self._pods = pods

    def find(self, namespace: str, pod: str, uid: str | None = None) -> Endpoint | None:
        """The pod's endpoint. Of two pods of one name (the old one's cell is still going) the present one counts."""
        if uid is None:
            present = self._pods.find(namespace, pod)
            uid = present["metadata"]["uid"] if present is not None else None
        cell = self._cells.get(uid) if uid is not None else None
        if cell is None or (cell.pod_namespace, cell.pod_name) != (namespace, pod):
            return None
        return self.endpoint(cell)

    def why_silent(self, namespace: str, pod: str, uid: str | None = None) -> str | None:
        """Until a kubelet writes about the pod, its machine is on its way; what ended and is gone says nothing more."""
        found = self._pods.find(namespace, pod)
        if found is None or uid not in (None, found["metadata"]["uid"]):
            return None
        if is_finished(found):
            gone = self._cells.get(found["metadata"]["uid"]) is None
            return "has ended, and its machine is gone" if gone else None
        if has_started(found):
            return None
        reason = (found.get("status") or {}).get("reason") or "ContainerCreating"
        return f"is waiting to start: {reason}"

    def all(self) -> Iterator[Endpoint]:
        return (self.endpoint(cell) for cell in self._cells.all())

    def endpoint(self, cell: Cell) -> Endpoint:
        link = self._links.get(cell.name)
        return Endpoint(
            cell=cell.name,
            namespace=cell.pod_namespace,
            pod=cell.pod_name,
            pod_uid=cell.pod_uid,
            kubelet_socket=link.kubelet_socket if link is not None else None,
            address=cell.address or "",
        )


class Keeper:
    """Keeps the logs of a pod whose cell is about to go."""

    def __init__(self, cells: Cells, directory: Directory, logs: KeptLogs) -> None:
        self._cells = cells
        self._directory = directory
        self._logs = logs

    async def keep(self, pod: Pod) -> str:
        """Raises CellUnreachable, KubeError."""
        cell = self._cells.get(pod["metadata"]["uid"])
        if cell is None:
            return "it had no cell"
        kept = await self._logs.keep(self._directory.endpoint(cell), pod)
        text = f"{kept.bytes} bytes of logs kept"
        return f"{text}, only the end of {', '.join(kept.cut)}" if kept.cut else text
