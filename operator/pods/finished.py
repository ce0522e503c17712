"""How far a pod is on the way to its end."""

from __future__ import annotations

from kip.pods.tree import Pod, dig

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
