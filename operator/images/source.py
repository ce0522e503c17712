"""What the cache needs of registries: `RegistrySource` has it, and tests have one without a network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from kip.oci.client import Registries
from kip.oci.credentials import Credentials
from kip.oci.manifest import Descriptor, Manifest
from kip.oci.reference import Reference, Repository


class Source(Protocol):
    """Registries, with the rights of whoever wants the image. Errors of its own are passed on as they are."""

    async def manifest(self, reference: Reference) -> Manifest:
        """The manifest or index of that name, its digest checked."""
        ...

    def blob(self, repository: Repository, descriptor: Descriptor) -> AsyncIterator[bytes]:
        """A blob as it is in the registry, in pieces of any size; it may be asked for more than once. Who reads it checks
        its digest, and calls its `aclose`, if it has one, when no more is wanted."""
        ...


class RegistrySource:
    """Registries, read with somebody's credentials. Raises RegistryError."""

    def __init__(self, registries: Registries, credentials: Credentials) -> None:
        self._registries, self._credentials = registries, credentials

    async def manifest(self, reference: Reference) -> Manifest:
        return await self._registries.manifest(reference, self._credentials)

    def blob(self, repository: Repository, descriptor: Descriptor) -> AsyncIterator[bytes]:
        return self._registries.blob(repository, descriptor, self._credentials)
