"""From a pod's claims to their volumes, and to the secrets that those name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from kip.cellapi.problem import Problem
from kip.pods.references import Reference
from kip.pods.tree import dig

if TYPE_CHECKING:
    from kip.cellapi.session import CellSession

# Where a volume's source names a secret of its own: node-side operations are the only ones a kubelet does.
_CSI_SECRETS = ("nodeStageSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef")
# Each look asks the API server for every claim and its volume, so a cell must not decide how often that happens. What
# is named seldom changes; a kubelet that was told too early that a secret is not its own asks again.
_LOOK_AGAIN_S = 10.0
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


class VolumeSecrets:
    """Which secrets one pod's volumes name: looked up when a kubelet asks for one, and then not again for a while,
    whether it was among them or not."""

    def __init__(self) -> None:
        self._named: frozenset[Reference] = frozenset()
        self._looked_at: float | None = None
        self._looking = asyncio.Lock()

    async def names(self, session: CellSession, secret: Reference) -> bool:
        """Whether one of the volumes names this secret. Raises Problem (503) when that cannot be found out."""
        claims = [each for each in session.references() if each.resource == "persistentvolumeclaims"]
        if not claims:
            return False
        async with self._looking:
            now = session.shared.clock.monotonic()
            if self._looked_at is None or now - self._looked_at >= _LOOK_AGAIN_S:
                self._named = frozenset(
                    [found for claim in claims for found in await _secrets_behind(session, claim)]
                )
                self._looked_at = now
        return secret in self._named


async def _secrets_behind(session: CellSession, claim: Reference) -> list[Reference]:
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
    return list(secrets_of(volume)) if claimed_volume(volume, frozenset({claim})) else []
