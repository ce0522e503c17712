"""The GPUs that a pod requests must be there before its kubelet sees the pod.

A kubelet that is shown a pod before its device plugin has registered never comes back to it: it fails the pod
(`UnexpectedAdmissionError`), or, never having heard of such devices, runs it without any. So the pod is held back until
the kubelet reports as many as it requests. Its host key is not recorded before that either: with it the pod may be
shown, by every later process too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kip.model.requirements import GPU
from kip.pods import resources


@dataclass(frozen=True)
class Lacking:
    """Devices that the kubelet does not offer yet."""

    resource: str
    wanted: int
    offered: int
    trouble: str = ""
    """What the kubelet warns of, about the plugin."""

    def __str__(self) -> str:
        has = f"the kubelet offers {self.offered} of {self.wanted} {self.resource}"
        return f"waiting for the GPU device plugin: {has}" + (f" ({self.trouble})" if self.trouble else "")


def lacking(pod: Mapping[str, Any], offered: Callable[[str], int], trouble: str = "") -> Lacking | None:
    """What is missing for the pod to be shown; None when nothing is."""
    wanted = int(resources.requests(pod).get(GPU, 0))
    has = offered(GPU) if wanted else 0
    return Lacking(GPU, wanted, has, trouble) if has < wanted else None
