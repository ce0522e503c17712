"""How far a pod is on the way to its end."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kip.model.clock import to_rfc3339
from kip.pods.tree import Pod, dig, items

# What a kubelet writes of containers whose end it has not seen (kubelet_pods.go).
_UNKNOWN_END = 137
_STATUSES = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")

_TERMINAL_PHASES = frozenset({"Succeeded", "Failed"})


def is_finished(pod: Pod) -> bool:
    """Its containers have ended and never start again; the object may stay for long."""
    return dig(pod, "status", "phase") in _TERMINAL_PHASES


def is_deleted(pod: Pod) -> bool:
    """Somebody has asked for its deletion; its containers may still run."""
    return dig(pod, "metadata", "deletionTimestamp") is not None


def has_started(pod: Pod) -> bool:
    """A kubelet has written about its containers."""
    return any(dig(pod, "status", kind) for kind in ("containerStatuses", "initContainerStatuses"))


def ended_statuses(pod: Pod, reason: str, message: str, now: datetime) -> dict[str, list[Mapping[str, Any]]]:
    """The parts of `status` about containers, as they are when the machine is gone: none runs, none is ready.

    `reason` is the pod's own: kubectl shows that of a container in its place.
    """
    end = {"reason": reason, "message": message, "exitCode": _UNKNOWN_END, "finishedAt": to_rfc3339(now)}
    return {
        kind: [_ended(s, end) for s in items(pod, "status", kind)]
        for kind in _STATUSES
        if dig(pod, "status", kind)
    }


def _ended(status: Mapping[str, Any], end: Mapping[str, Any]) -> Mapping[str, Any]:
    running = dig(status, "state", "running")
    if running is None:
        return status
    known = {"startedAt": running.get("startedAt"), "containerID": status.get("containerID")}
    terminated = {**end, **{key: value for key, value in known.items() if value}}
    return {**status, "ready": False, "started": False, "state": {"terminated": terminated}}
