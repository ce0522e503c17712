"""As whom a pod's images are asked for: with its own pull secrets, and for ECR with Kip's role.

The same on both sides of the cache: whoever fills it and whoever uses it asks as the pod would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

import structlog

from kip.cloud import ecr
from kip.cloud.ecr import EcrLogins
from kip.cloud.errors import CloudError
from kip.kube.client import ApiClient, Impersonation
from kip.kube.errors import NotFound, from_reply
from kip.oci import credentials
from kip.oci.credentials import Both, Credential, Credentials
from kip.oci.reference import Repository

log = structlog.get_logger(__name__)


class EcrCredentials:
    """What Kip's role gets for registries of ECR; nothing for all others."""

    def __init__(self, logins: EcrLogins, *, accounts: Collection[str] = ()) -> None:
        """`accounts` are those of AWS whose registries are meant; without any, all are."""
        self._logins = logins
        self._accounts = frozenset(accounts)

    def are_for(self, host: str) -> bool:
        """Whether a registry of that name is meant."""
        return self._region(host) is not None

    async def login(self, host: str) -> Credential | None:
        """For a registry, None if it is not meant. Raises CloudError where the role gets none."""
        region = self._region(host)
        if region is None:
            return None
        login = await self._logins.of(region)
        return Credential(login.username, login.password)

    async def of(self, repository: Repository) -> tuple[Credential, ...]:
        """None too where the role may not: what others may pull is then pulled with their own secrets only."""
        try:
            login = await self.login(repository.registry)
        except CloudError as error:
            log.debug("no login to ECR", registry=repository.registry, error=error.summary)
            return ()
        return () if login is None else (login,)

    def _region(self, host: str) -> str | None:
        found = ecr.registry(host)
        if found is None or (self._accounts and found.account not in self._accounts):
            return None
        return found.region


class PodLogins:
    """The credentials of pods, read as the virtual node, to which the API server gives the secrets of its own pods alone."""

    def __init__(self, client: ApiClient, general: Credentials, *, impersonate: bool) -> None:
        """`general` comes after what a pod has itself. Without `impersonate` Kip's own rights are used."""
        self._client = client
        self._general = general
        self._impersonate = impersonate

    async def of(self, pod: Mapping[str, Any]) -> Credentials:
        """What the kubelet would pull the pod's images with; a secret that is not there is left out, as it does.

        Raises:
            KubeError: a secret cannot be read now.
            CredentialError: one is malformed.
        """
        spec, namespace = pod["spec"], pod["metadata"]["namespace"]
        names = [entry.get("name") for entry in spec.get("imagePullSecrets") or ()]
        node = spec.get("nodeName")
        found = await asyncio.gather(*(self._secret(namespace, name, node) for name in names if name))
        return Both(credentials.from_secrets(filter(None, found)), self._general)

    async def _secret(self, namespace: str, name: str, node: str | None) -> Mapping[str, Any] | None:
        as_node = (
            Impersonation(f"system:node:{node}", ("system:nodes",)) if self._impersonate and node else None
        )
        path = f"/api/v1/namespaces/{namespace}/secrets/{name}"
        try:
            reply = await self._client.request("GET", path, impersonate=as_node)
            if reply.status >= 400:
                raise from_reply(reply.status, reply.body)
        except NotFound:
            return None
        secret: Mapping[str, Any] = reply.json()
        return secret
