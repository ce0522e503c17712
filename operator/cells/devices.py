"""The GPUs and huge pages that a pod requests must be there before its kubelet sees the pod.

A kubelet that is shown a pod before its device plugin has registered never comes back to it: it fails the pod
(`UnexpectedAdmissionError`), or, never having heard of such devices, runs it without any. One that has fewer huge pages
fails it too (`OutOfhugepages-1Gi`). So the pod is held back until the kubelet reports as much as it requests. Its host
key is not recorded before that either: with it the pod may be shown, by every later process too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kip.model.hugepages import SIZES
from kip.model.quantity import human_bytes
from kip.model.requirements import GPU
from kip.pods import resources


@dataclass(frozen=True)
class Lacking:
    """Devices or huge pages that the kubelet does not offer yet."""

    resource: str
    wanted: int
    """Devices, or bytes of huge pages."""
    offered: int
    trouble: str = ""
    """What the kubelet warns of, about the device plugin."""

    def __str__(self) -> str:
        if self.resource in SIZES:
            has = f"{human_bytes(self.offered)} of {human_bytes(self.wanted)}"
            return f"waiting for huge pages: the kubelet offers {has} {self.resource}"
        has = f"the kubelet offers {self.offered} of {self.wanted} {self.resource}"
        return f"waiting for the GPU device plugin: {has}" + (f" ({self.trouble})" if self.trouble else "")

    @property
    def prerequisites(self) -> str:
        """A sentence on what it takes that it is there."""
        if self.resource in SIZES:
            return (
                "The machine's kernel sets them aside at boot; it needs pages of that size, and as much memory beside "
                "what the system takes"
            )
        return (
            "It needs a way from the cells to the registry of cells.gpu.devicePluginImage, and a machine image with "
            "NVIDIA's driver and container toolkit"
        )


def lacking(pod: Mapping[str, Any], offered: Callable[[str], int], trouble: str = "") -> Lacking | None:
    """What is missing first for the pod to be shown; None when nothing is."""
    requested = resources.requests(pod)
    for resource in (GPU, *SIZES):
        wanted = int(requested.get(resource, 0))
        if wanted and (has := offered(resource)) < wanted:
            return Lacking(resource, wanted, has, "" if resource in SIZES else trouble)
    return None
