"""Is a pod ours, and can a cell serve it? If not: why, in words for `kubectl describe pod`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kip.model.hugepages import SIZES
from kip.model.quantity import QuantityError
from kip.pods import resources
from kip.pods.annotations import InvalidAnnotationError, wishes
from kip.pods.finished import is_deleted, is_finished
from kip.pods.references import MIRROR_ANNOTATION
from kip.pods.tree import Pod, dig, entries, items

# "api" is written on no pod; a kubelet marks those that it read elsewhere.
_SOURCE_ANNOTATION = "kubernetes.io/config.source"

# Volume plugins that the API still knows and no kubelet has: moved to CSI drivers, or given up.
_GONE_VOLUMES = (
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "flocker",
    "gcePersistentDisk",
    "glusterfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
)

# What a kubelet would have to ask for in the node's name, and the cell API does not let it.
_PROJECTIONS_NOT_SERVED = {
    "podCertificate": "a certificate of the pod's own",
    "clusterTrustBundle": "a bundle of the cluster's trusted certificates",
}

# Where sshd listens on a cell (kip.bootstrap.layout).
SSH_PORT = 22


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done about a pod that has no cell yet."""

    action: Literal["serve", "ignore", "refuse"]
    """`ignore`: nothing, and nobody is told. `refuse`: no cell, and the pod's events say why."""
    reason: str
    """One word in CamelCase, for events and conditions."""
    message: str
    """A sentence for the pod's owner: what is wrong and what to do about it."""

    @property
    def refusal(self) -> tuple[str, str] | None:
        """Reason and message when the pod is refused, else None."""
        return (self.reason, self.message) if self.action == "refuse" else None


def judge(pod: Pod, *, nodes: Collection[str], allow_daemon_sets: bool = False) -> Verdict:
    """Whether to give this pod a cell. `nodes` are the virtual nodes that this process serves."""
    ignored = _why_ignored(pod, nodes)
    if ignored is not None:
        return Verdict("ignore", *ignored)
    if not allow_daemon_sets and (name := _daemon_set(pod)) is not None:
        return Verdict("refuse", "DaemonSetPod", _DAEMON_SET.format(name=name))
    for reason, checks in _CHECKS.items():
        problems = [problem for check in checks for problem in check(pod)]
        if problems:
            return Verdict("refuse", reason, "; ".join(problems))
    return Verdict("serve", "Accepted", "the pod gets a cell")


_DAEMON_SET = (
    "pods of DaemonSets get no cell: DaemonSet {name} would cost an instance on every virtual node. Keep it off "
    "virtual nodes with a node affinity for type NotIn (virtual-kubelet), or set cells.allowDaemonSets"
)


def _why_ignored(pod: Pod, nodes: Collection[str]) -> tuple[str, str] | None:
    node = dig(pod, "spec", "nodeName")
    if node not in nodes:
        return "NotOurs", f"the pod is bound to {node or 'no node'}"
    if is_finished(pod):
        return "Finished", "the pod has ended"
    if is_deleted(pod):
        return "Deleted", "the pod is being deleted"
    return None


def _daemon_set(pod: Pod) -> str | None:
    owners = items(pod, "metadata", "ownerReferences")
    return next(
        (owner["name"] for owner in owners if owner.get("controller") and owner["kind"] == "DaemonSet"), None
    )


def _static(pod: Pod) -> Iterator[str]:
    annotations = entries(pod, "metadata", "annotations")
    if MIRROR_ANNOTATION in annotations or annotations.get(_SOURCE_ANNOTATION, "api") != "api":
        yield "static pods run only where their file is; a virtual node has none"


def _annotations(pod: Pod) -> Iterator[str]:
    try:
        wishes(pod)
    except InvalidAnnotationError as error:
        yield from str(error).splitlines()


def _system(pod: Pod) -> Iterator[str]:
    name = dig(pod, "spec", "os", "name") or "linux"
    if name != "linux":
        yield f"cells run Linux, and the pod's spec.os.name is {name}"


def _huge_pages(pod: Pod) -> Iterator[str]:
    try:
        requested = resources.requests(pod)
    except QuantityError as error:
        yield str(error)
        return
    for resource in sorted(requested):
        if resource.startswith(resources.HUGE_PAGES) and resource not in SIZES and requested[resource]:
            yield f"cells have huge pages of 2Mi and 1Gi, and the pod requests {resource}"


def _host_ports(pod: Pod) -> Iterator[str]:
    # Also of a pod on the machine's network, which could only fail to bind it.
    for container in (*items(pod, "spec", "initContainers"), *items(pod, "spec", "containers")):
        for port in items(container, "ports"):
            if port.get("hostPort") == SSH_PORT and port.get("protocol", "TCP") == "TCP":
                yield (
                    f"container {container['name']} wants hostPort {SSH_PORT}/TCP, by which Kip itself reaches the "
                    "cell: choose another one"
                )


def _volumes(pod: Pod) -> Iterator[str]:
    for volume in items(pod, "spec", "volumes"):
        yield from _projections(volume)
        if (driver := dig(volume, "csi", "driver")) is not None:
            yield f"volume {volume['name']} needs the CSI driver {driver}, and cells have no CSI drivers"
        for source in _GONE_VOLUMES:
            if volume.get(source) is not None:
                yield f"volume {volume['name']} is of the kind {source}, which no kubelet supports any more"


def _projections(volume: Mapping[str, Any]) -> Iterator[str]:
    for source in items(volume, "projected", "sources"):
        for kind, what in _PROJECTIONS_NOT_SERVED.items():
            if source.get(kind) is not None:
                yield f"volume {volume['name']} projects {what} ({kind}), and cells are not given any"


def _claims(pod: Pod) -> Iterator[str]:
    for claim in items(pod, "spec", "resourceClaims"):
        yield f"resource claim {claim['name']} needs a device driver, and cells have none"


# Reason for the pod's events -> what is looked at; the first reason with a problem counts, with all its problems.
_CHECKS: dict[str, tuple[Callable[[Pod], Iterator[str]], ...]] = {
    "InvalidAnnotation": (_annotations,),
    "Unsupported": (_static, _system, _huge_pages, _host_ports, _volumes, _claims),
}
