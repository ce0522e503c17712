"""From a pod's claims to their volumes, and to the secrets that those name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kip.cellapi.problem import Problem
from kip.cellapi.session import CellSession
from kip.pods.references import Reference
from kip.pods.tree import dig

# Where a volume's source names a secret of its own: node-side operations are the only ones a kubelet does.
_CSI_SECRETS = ("nodeStageSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef")
_OTHER_SECRETS = ("cephfs", "cinder", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos")


def claimed_volume(volume: Mapping[str, Any], references: frozenset[Reference]) -> Reference | None:
    """Which of the claims that a pod refers to a PersistentVolume is bound to."""
    claim = dig(volume, "spec", "claimRef") or {}
    bound = Reference("persistentvolumeclaims", claim.get("namespace", ""), claim.get("name", ""))
    return bound if bound in references else None


def secrets_of(volume: Mapping[str, Any]) -> Iterator[Reference]:
    """Secrets that a PersistentVolume names, which may be of any namespace."""
    source = volume.get("spec") or {}
    default = dig(source, "claimRef", "namespace") or ""
    named = [dig(source, "csi", key) for key in _CSI_SECRETS]
    named += [dig(source, kind, "secretRef") for kind in _OTHER_SECRETS]
    azure = dig(source, "azureFile")
    if azure:
        named.append({"name": azure.get("secretName"), "namespace": azure.get("secretNamespace")})
    for secret in named:
        if secret and secret.get("name"):
            yield Reference("secrets", secret.get("namespace") or default, secret["name"])


async def names_secret(session: CellSession, secret: Reference) -> bool:
    """Whether one of the pod's volumes names this secret. Asks the API server for claims and volumes if need be.

    Raises Problem (503) when that cannot be found out.
    """
    references = session.references()
    claims = [each for each in references if each.resource == "persistentvolumeclaims"]
    if claims and secret not in session.volume_secrets:
        session.volume_secrets = frozenset(
            [found for claim in claims for found in await _secrets_behind(session, claim, references)]
        )
    return bool(claims) and secret in session.volume_secrets


async def _secrets_behind(
    session: CellSession, claim: Reference, references: frozenset[Reference]
) -> list[Reference]:
    upstream, node = session.shared.upstream, session.identity.node_name
    try:
        path = f"/api/v1/namespaces/{claim.namespace}/persistentvolumeclaims/{claim.name}"
        name = dig((await upstream.get(node, path)).json(), "spec", "volumeName")
        if not name:
            return []
        volume = (await upstream.get(node, f"/api/v1/persistentvolumes/{name}")).json()
    except Problem as problem:
        if problem.code == 503:
            raise
        return []
    return list(secrets_of(volume)) if claimed_volume(volume, references) == claim else []
