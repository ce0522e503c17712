"""Which other objects a pod refers to: what its kubelet may read, and nothing else.

The walk finds what the Node authorizer of Kubernetes 1.36 grants a node for a pod bound to it
(`plugin/pkg/auth/authorizer/node/graph.go`, `AddPod`), so that a cell can read exactly what an ordinary node
could read for the same pod. What is reached only through another object (the volume behind a claim, the
secrets of that volume) is not found here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kip.pods.tree import Pod, dig, entries, items

#: Set on the API's copy of a static pod. It grants nothing: a node could otherwise write itself permissions.
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"

_CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")

# Volume source -> where in it the name of a secret is.
_VOLUME_SECRET: Mapping[str, tuple[str, ...]] = {
    "azureFile": ("secretName",),
    "cephfs": ("secretRef", "name"),
    "cinder": ("secretRef", "name"),
    "csi": ("nodePublishSecretRef", "name"),
    "flexVolume": ("secretRef", "name"),
    "iscsi": ("secretRef", "name"),
    "rbd": ("secretRef", "name"),
    "scaleIO": ("secretRef", "name"),
    "secret": ("secretName",),
    "storageos": ("secretRef", "name"),
}


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """One namespaced object, named as in the path of an API request."""

    resource: str
    """The plural: `secrets`, `configmaps`, `serviceaccounts`, `persistentvolumeclaims`, `resourceclaims`."""
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.resource}/{self.namespace}/{self.name}"


def referenced(pod: Pod) -> frozenset[Reference]:
    """Every object that the pod names, all of them in the pod's own namespace.

    Names of generated resource claims are taken from the pod's status, which NodeRestriction keeps a kubelet
    from changing there; who lets a kubelet write status by other rights than a node's must keep them too.
    """
    if MIRROR_ANNOTATION in entries(pod, "metadata", "annotations"):
        return frozenset()
    namespace = pod["metadata"]["namespace"]
    return frozenset(Reference(resource, namespace, name) for resource, name in _names(pod) if name)


def _names(pod: Pod) -> Iterator[tuple[str, str | None]]:
    yield "serviceaccounts", dig(pod, "spec", "serviceAccountName")
    for pull_secret in items(pod, "spec", "imagePullSecrets"):
        yield "secrets", pull_secret.get("name")
    for key in _CONTAINER_LISTS:
        for container in items(pod, "spec", key):
            yield from _of_container(container)
    for volume in items(pod, "spec", "volumes"):
        yield from _of_volume(volume, pod_name=pod["metadata"]["name"])
    yield from _resource_claims(pod)


def _of_container(container: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    for source in items(container, "envFrom"):
        yield "secrets", dig(source, "secretRef", "name")
        yield "configmaps", dig(source, "configMapRef", "name")
    for variable in items(container, "env"):
        yield "secrets", dig(variable, "valueFrom", "secretKeyRef", "name")
        yield "configmaps", dig(variable, "valueFrom", "configMapKeyRef", "name")


def _of_volume(volume: Mapping[str, Any], *, pod_name: str) -> Iterator[tuple[str, str | None]]:
    for source, path in _VOLUME_SECRET.items():
        yield "secrets", dig(volume, source, *path)
    yield "configmaps", dig(volume, "configMap", "name")
    for part in items(volume, "projected", "sources"):
        yield "secrets", dig(part, "secret", "name")
        yield "configmaps", dig(part, "configMap", "name")
    yield "persistentvolumeclaims", dig(volume, "persistentVolumeClaim", "claimName")
    if volume.get("ephemeral") is not None:
        yield "persistentvolumeclaims", f"{pod_name}-{volume['name']}"


def _resource_claims(pod: Pod) -> Iterator[tuple[str, str | None]]:
    # A claim made from a template has a generated name, which only the pod's status tells.
    generated = {
        entry.get("name"): entry.get("resourceClaimName")
        for entry in items(pod, "status", "resourceClaimStatuses")
    }
    for claim in items(pod, "spec", "resourceClaims"):
        yield "resourceclaims", claim.get("resourceClaimName") or generated.get(claim.get("name"))
    yield "resourceclaims", dig(pod, "status", "extendedResourceClaimStatus", "resourceClaimName")
