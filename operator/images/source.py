"""What the cache needs of a registry. `kip.oci` has such a client; tests have one without a network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Fetched:
    """A manifest or an index as the registry gave it."""

    content: bytes
    media_type: str
    """Of the answer's Content-Type, without parameters."""
    digest: str
    """SHA-256 of the content."""


class Source(Protocol):
    """One repository, with the rights of whoever wants the image. Errors of its own are passed on as they are."""

    async def manifest(self, target: str) -> Fetched:
        """The manifest or index of a tag or a digest."""
        ...

    def blob(self, digest: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Opens a blob's content, as it is in the registry, in pieces of any size. Who leaves early ends the download;
        it may be opened again. The digest is checked by who reads."""
        ...
