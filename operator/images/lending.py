"""Kip's own logins, for the kubelets of pods whose images are at ECR: what a node's credential provider is elsewhere.

Why, and what a pod can do with it: docs/designs/0009-ecr-logins.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from kip import config
from kip.cloud.ecr import EcrLogins
from kip.cloud.errors import CloudError
from kip.images.logins import EcrCredentials
from kip.oci.credentials import ANONYMOUS, Credential, Credentials
from kip.oci.reference import InvalidName, parse
from kip.pods.images import images
from kip.pods.tree import Pod

# A kubelet waits with its pod for as long; AWS answers within a few tenths of a second. What comes later is there for the
# next one who asks.
_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Lent:
    """Logins, as far as there are any."""

    logins: dict[str, Credential] = field(default_factory=dict)
    """By the registry's name."""
    trouble: str = ""
    """Why those for the others are missing; empty if none are."""


class Logins(Protocol):
    """Where they come from (`kip.images.logins.EcrCredentials`)."""

    def are_for(self, host: str) -> bool: ...

    async def login(self, host: str) -> Credential | None: ...


class Lending:
    """Which logins of Kip's a pod's images want, and these."""

    def __init__(self, ecr: Logins, *, patience_s: float = _PATIENCE_S) -> None:
        self._ecr = ecr
        self._patience_s = patience_s

    def registries(self, pod: Pod) -> tuple[str, ...]:
        """The pod's own, as far as Kip lends its login to them; in order, each once."""
        return tuple(sorted({host for host in map(_host, images(pod)) if host and self._ecr.are_for(host)}))

    async def of(self, registries: Collection[str]) -> Lent:
        """What there is within a few seconds. Raises nothing that AWS can be blamed for."""
        found = await asyncio.gather(*map(self._login, registries))
        logins = {
            host: login
            for host, login in zip(registries, found, strict=True)
            if isinstance(login, Credential)
        }
        # One login counts for a region's registries, and so does its lack.
        reasons = dict.fromkeys(why for why in found if isinstance(why, str))
        return Lent(logins, "; ".join(reasons))

    async def _login(self, host: str) -> Credential | str | None:
        try:
            async with asyncio.timeout(self._patience_s):
                return await self._ecr.login(host)
        except TimeoutError:
            return f"{host}: AWS did not answer within {self._patience_s:g} s"
        except CloudError as error:
            return f"{host}: {error.summary}"


class NothingLent:
    """Instead of `Lending` where Kip keeps its logins to itself."""

    def registries(self, pod: Pod) -> tuple[str, ...]:
        return ()

    async def of(self, registries: Collection[str]) -> Lent:
        return Lent()


def for_pods(own: EcrLogins, wanted: config.EcrLogins) -> tuple[Credentials, Lending | NothingLent]:
    """What of Kip's own logins counts for pods: when Kip asks registries for them, and when their kubelets pull. The same
    in both, so that nobody gets from the image cache what could not be pulled."""
    if not wanted.enabled:
        return ANONYMOUS, NothingLent()
    ecr = EcrCredentials(own, accounts=wanted.accounts)
    return ecr, Lending(ecr)


def _host(image: str) -> str | None:
    try:
        return parse(image).repository.registry
    except InvalidName:
        return None
