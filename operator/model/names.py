"""Names that follow from what they name, so that a repeated step finds what the first try made."""

from __future__ import annotations

import hashlib

GROUP = "kip.elotl.co"
VERSION = "v1beta1"
# On every object that belongs to an installation, as its manifests have it.
LABEL_APP = "app.kubernetes.io/name"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
APP = "kip"
CELL_FINALIZER = f"{GROUP}/instance"
TAINT_KEY = "virtual-kubelet.io/provider"
TAINT_VALUE = "kip"
# On the virtual node: the keys of the labels that Kip set, with commas between them.
ANNOTATION_LABELS = f"{GROUP}/labels"

# EC2 tags. The first two say whose an instance is; the sweep terminates only what carries both.
TAG_CLUSTER = f"{GROUP}/cluster"
TAG_NODE = f"{GROUP}/node"
TAG_LAUNCH = f"{GROUP}/launch"
TAG_NAME = "Name"
# What a thing with the cluster's tag is for, where the cluster may have several of its kind.
TAG_PURPOSE = f"{GROUP}/purpose"
# As the first Kip had them: reports on costs go by them.
TAG_NAMESPACE = "KipNamespace"
TAG_NAMETAG = "KipNametag"


def cell_name(pod_uid: str) -> str:
    """The Cell of the pod with this UID: a second attempt to create it meets the first one's object."""
    return f"kip-{pod_uid}"


def provider_id(cluster: str, node: str) -> str:
    """`spec.providerID` of the virtual node: a scheme that no cloud controller takes for its own."""
    return f"kip://{cluster}/{node}"


def client_token(*, cells: list[tuple[str, int]], parameters: str) -> str:
    """The EC2 client token of one batch: at most 64 ASCII characters, the same for the same intent.

    `cells` are (Cell UID, launch number) pairs; `parameters` a digest of everything else in the request, because EC2
    refuses a token that comes back with other parameters (IdempotentParameterMismatch). The launch number keeps a
    second launch for the same pod from getting the first one's terminated instance (IdempotentInstanceTerminated).
    """
    digest = hashlib.sha256()
    for uid, number in sorted(cells):
        digest.update(f"{uid}/{number}\n".encode())
    digest.update(parameters.encode())
    return f"kip-{digest.hexdigest()[:56]}"
