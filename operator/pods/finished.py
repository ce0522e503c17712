"""How far a pod is on the way to its end."""

from __future__ import annotations

from datetime import datetime

from kip.model.clock import from_rfc3339
from kip.pods.tree import Pod, dig

TERMINAL_PHASES = frozenset({"Succeeded", "Failed"})


def is_finished(pod: Pod) -> bool:
    """Its containers have ended and never start again; the object may stay for long."""
    return dig(pod, "status", "phase") in TERMINAL_PHASES


def is_deleted(pod: Pod) -> bool:
    """Somebody has asked for its deletion; its containers may still run."""
    return dig(pod, "metadata", "deletionTimestamp") is not None


def deletion_deadline(pod: Pod) -> datetime | None:
    """When its grace period ends: deletionTimestamp has the period in it. None while it is not deleted."""
    stamp = dig(pod, "metadata", "deletionTimestamp")
    return None if stamp is None else from_rfc3339(stamp)


def has_started(pod: Pod) -> bool:
    """A kubelet has written about its containers."""
    return any(dig(pod, "status", kind) for kind in ("containerStatuses", "initContainerStatuses"))


def runs_to_completion(pod: Pod) -> bool:
    """Its containers are to end some day; otherwise an end is always followed by another start."""
    return dig(pod, "spec", "restartPolicy") in ("OnFailure", "Never")
