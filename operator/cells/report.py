"""Telling people: events on the pod and its Cell, and a reason in its status while no kubelet is there to write one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog

from kip.kube.client import ApiClient
from kip.kube.errors import Conflict, KubeError, NotFound
from kip.kube.events import EventRecorder
from kip.model.cell import Cell
from kip.model.clock import Clock, to_rfc3339
from kip.model.names import GROUP, VERSION
from kip.pods.finished import ended_statuses

log = structlog.get_logger(__name__)

# The condition that says why a pod was stopped by something other than itself; Job failure policies read it.
_DISRUPTION = "DisruptionTarget"
_READINESS = ("Ready", "ContainersReady")


class Reporter:
    """Writes what a person sees of a pod before its kubelet does, and after it is lost."""

    def __init__(
        self,
        client: ApiClient,
        events: EventRecorder,
        clock: Clock,
        *,
        seen: Callable[[dict[str, Any]], object] = lambda pod: None,
        cell_of: Callable[[str], Cell | None] = lambda pod_uid: None,
        cell_events: EventRecorder | None = None,
    ) -> None:
        """`seen` gets each pod as it is after a write: whoever decides next must not decide on what was before.

        `cell_events` writes what is wrong with the pod to its Cell too (`cell_of`); not what goes well, which the Cell's
        conditions tell.
        """
        self._cell_of = cell_of
        self._cell_events = cell_events
        self._client = client
        self._events = events
        self._clock = clock
        self._seen = seen

    async def progress(self, pod: Mapping[str, Any], reason: str, message: str) -> None:
        """A step forward, as an event."""
        await self._events.tell(pod, "Normal", reason, message)

    async def problem(self, pod: Mapping[str, Any], reason: str, message: str) -> None:
        """What keeps the pod from starting: a warning event, and `status.reason` (kubectl's STATUS column)."""
        await self._warn(pod, reason, message)
        status = pod.get("status") or {}
        if status.get("reason") == reason and status.get("message") == message:
            return
        await self._try_patch_status(pod, {"reason": reason, "message": message})

    async def warning(self, pod: Mapping[str, Any], reason: str, message: str) -> None:
        """Something a person should know of a pod that a kubelet already reports on."""
        await self._warn(pod, reason, message)

    async def cell_warning(self, cell: Cell, reason: str, message: str) -> None:
        """Something that a person should know of a machine, also when its pod is gone."""
        if self._cell_events is None:
            return
        about = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "Cell",
            "metadata": {"name": cell.name, "uid": cell.uid},
        }
        await self._cell_events.tell(about, "Warning", reason, message)

    async def _warn(self, pod: Mapping[str, Any], reason: str, message: str) -> None:
        await self._events.tell(pod, "Warning", reason, message)
        cell = self._cell_of(pod["metadata"]["uid"])
        if cell is not None:
            await self.cell_warning(cell, reason, message)

    async def solved(self, pod: Mapping[str, Any]) -> None:
        """Take back the reason that `problem` wrote; the kubelet writes the status from now on."""
        status = pod.get("status") or {}
        if status.get("phase", "Pending") == "Pending" and status.get("reason"):
            await self._try_patch_status(pod, {"reason": None, "message": None})

    async def failed(self, pod: Mapping[str, Any], reason: str, message: str) -> None:
        """The pod's machine is gone: the pod has failed for good, so that its controller replaces it.

        Raises KubeError: a pod that looked alive without a machine would never be replaced.
        """
        await self._warn(pod, reason, message)
        moment = self._clock.now()
        now = to_rfc3339(moment)
        disruption = {
            "type": _DISRUPTION,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastTransitionTime": now,
        }
        others = [
            {**c, "status": "False", "lastTransitionTime": now} if c["type"] in _READINESS else c
            for c in (pod.get("status") or {}).get("conditions") or []
            if c["type"] != _DISRUPTION
        ]
        await self._patch_status(
            pod,
            {
                "phase": "Failed",
                "reason": reason,
                "message": message,
                "conditions": [*others, disruption],
                **ended_statuses(pod, reason, message, moment),
            },
        )

    async def remove(self, pod: Mapping[str, Any]) -> None:
        """Confirm the end of a pod that is marked for deletion, as its kubelet would have."""
        metadata = pod["metadata"]
        with suppress(NotFound, Conflict):  # gone, or another pod of the same name by now
            await self._client.delete(
                f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}",
                {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}},
            )

    async def _try_patch_status(self, pod: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        try:
            await self._patch_status(pod, status)
        except KubeError as error:
            name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            log.warning("pod status not written", pod=name, error=str(error))

    async def _patch_status(self, pod: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
        patch = {"metadata": {"uid": metadata["uid"]}, "status": dict(status)}
        with suppress(NotFound, Conflict):  # gone, or another pod of the same name by now
            self._seen(await self._client.patch(path, patch))
