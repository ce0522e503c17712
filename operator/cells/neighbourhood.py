"""What decides about a pod's zone besides the pod itself: its volumes, and where its like are."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import structlog

from kip.cells.repository import Cells
from kip.cells.stages import Pod
from kip.kube.client import ApiClient
from kip.kube.errors import Forbidden, NotFound
from kip.kube.store import PodStore
from kip.pods import volumes
from kip.pods.finished import is_deleted, is_finished
from kip.pods.spread import Neighbour
from kip.pods.tree import dig, entries, items

log = structlog.get_logger(__name__)

# Expected zones; a pod's own Cell tells it some milliseconds later.
_REMEMBERED = 10_000


class Neighbourhood:
    """Asks the API server for volumes only, and only where a pod has some."""

    def __init__(self, client: ApiClient, pods: PodStore, cells: Cells) -> None:
        self._client = client
        self._pods = pods
        self._cells = cells
        self._expected: OrderedDict[str, str] = OrderedDict()
        self._refusal_told = False

    async def volume_zones(self, pod: Pod) -> frozenset[str] | None:
        """Zones in which all bound volumes of the pod are; None when they are in none in particular.

        Raises KubeError when the API server cannot be asked now: a machine in the wrong zone would never do.
        """
        return volumes.in_all([await self._zones_of(pod, claim) for claim in volumes.claims(pod)])

    async def _zones_of(self, pod: Pod, claim: str) -> frozenset[str] | None:
        namespace = pod["metadata"]["namespace"]
        try:
            path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}"
            name = dig(await self._client.get(path), "spec", "volumeName")
            # Not bound yet: its volume will be made where the pod is.
            return (
                volumes.zones_of(await self._client.get(f"/api/v1/persistentvolumes/{name}"))
                if name
                else None
            )
        except NotFound:
            # The pod waits for it, as on any node; its kubelet says so.
            return None
        except Forbidden as error:
            self._tell(error)
            return None

    def _tell(self, error: Forbidden) -> None:
        """Once: permissions of an older version (deploy/kustomize/base/rbac.yaml)."""
        if not self._refusal_told:
            self._refusal_told = True
            log.warning("zones of volumes are not known", error=str(error))

    def neighbours(self, pod: Pod) -> tuple[Neighbour, ...]:
        """The pods of its namespace on this virtual node that have a machine or are about to get one.

        None for a pod that does not want to be spread. As for the scheduler, those that end or have ended do not count.
        """
        if not any(items(pod, "spec", "topologySpreadConstraints")):
            return ()
        uid, namespace = pod["metadata"]["uid"], pod["metadata"]["namespace"]
        return tuple(
            Neighbour(entries(other, "metadata", "labels"), zone)
            for other in self._pods.items()
            if other["metadata"]["namespace"] == namespace
            and other["metadata"]["uid"] != uid
            and _counts(other)
            and (zone := self._zone(other["metadata"]["uid"])) is not None
        )

    def expect(self, pod: Pod, zone: str | None) -> None:
        """This pod is about to get a machine in that zone (None: in none): those that are planned next count it there.

        The scheduler has to assume so too; otherwise a hundred pods that come at once would all find every zone empty.
        """
        uid = pod["metadata"]["uid"]
        self._expected.pop(uid, None)
        if zone is not None:
            self._expected[uid] = zone
        if len(self._expected) > _REMEMBERED:
            self._expected.popitem(last=False)

    def _zone(self, pod_uid: str) -> str | None:
        cell = self._cells.get(pod_uid)
        if cell is not None and cell.zone is not None:
            return cell.zone
        if cell is not None and cell.intent is not None:
            return cell.intent.zone
        return self._expected.get(pod_uid)


def _counts(pod: dict[str, Any]) -> bool:
    return not is_finished(pod) and not is_deleted(pod)
