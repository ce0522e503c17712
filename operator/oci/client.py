"""Registries, asked for images: which digest a name has, what an image consists of, and its blobs."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import aiohttp
import msgspec

from kip.model.clock import Clock
from kip.oci import manifest as manifests
from kip.oci.credentials import ANONYMOUS, Credential, Credentials
from kip.oci.endpoints import Endpoints
from kip.oci.errors import Damaged, Denied, NotAnImage, NotFound, TooMany, Unreachable
from kip.oci.guard import GuardedResolver
from kip.oci.manifest import Descriptor, Manifest
from kip.oci.reference import Reference, Repository, is_digest
from kip.oci.transport import Patience, Target, Transport

Result = TypeVar("Result")

# Of a configuration: containerd's limit for what it reads into memory.
_LARGEST_CONFIG = 8 << 20


class Registries:
    """Whoever asks says as whom: nothing that was learnt with one's credentials is told to others."""

    def __init__(self, transport: Transport, endpoints: Endpoints) -> None:
        self._transport = transport
        self._endpoints = endpoints

    async def resolve(self, reference: Reference, credentials: Credentials = ANONYMOUS) -> str:
        """The digest that the name has now: one HEAD. Raises RegistryError."""

        async def head(target: Target, credential: Credential | None, attempts: int) -> str:
            accept = {"Accept": manifests.ACCEPT}
            async with await self._transport.ask(
                "HEAD", target, credential, accept, attempts=attempts
            ) as answer:
                return answer.headers.get("Docker-Content-Digest", "")

        digest = await self._anywhere(reference.repository, credentials, "manifests", reference.target, head)
        if not is_digest(digest):
            # The header is optional; the content always says it.
            return (await self.manifest(reference, credentials)).digest
        if reference.digest and digest != reference.digest:
            raise Damaged(f"{reference}: the registry has {digest} there")
        return digest

    async def manifest(self, reference: Reference, credentials: Credentials = ANONYMOUS) -> Manifest:
        """The manifest or index of that name, its digest checked. Raises RegistryError."""

        async def get(target: Target, credential: Credential | None, attempts: int) -> Manifest:
            accept = {"Accept": manifests.ACCEPT}
            async with await self._transport.ask(
                "GET", target, credential, accept, attempts=attempts
            ) as answer:
                told = answer.headers.get("Docker-Content-Digest", "")
                content = await self._transport.read(answer, manifests.LARGEST)
                return _checked(
                    reference, Manifest(manifests.digest_of(content), answer.content_type, content), told
                )

        return await self._anywhere(reference.repository, credentials, "manifests", reference.target, get)

    async def platforms(self, reference: Reference, credentials: Credentials = ANONYMOUS) -> tuple[str, ...]:
        """The platforms that an image is for, such as linux/amd64. Raises RegistryError."""
        found = await self.manifest(reference, credentials)
        if found.is_index:
            return tuple(manifests.platforms(found))
        return (_platform_of(found, await self._config(reference.repository, found, credentials)),)

    async def _config(self, repository: Repository, manifest: Manifest, credentials: Credentials) -> bytes:
        descriptor = manifests.config_of(manifest)
        if descriptor.size > _LARGEST_CONFIG:
            raise NotAnImage(f"{manifest.digest}: a configuration of {descriptor.size} bytes")
        return b"".join([chunk async for chunk in self.blob(repository, descriptor, credentials)])

    async def blob(
        self, repository: Repository, descriptor: Descriptor, credentials: Credentials = ANONYMOUS
    ) -> AsyncGenerator[bytes, None]:
        """The blob in pieces, as they come. A connection that breaks is made again, and goes on where it was.

        Its digest is checked at the end: until then nothing of it is known to be right. Whoever does not read to the end
        closes it (`contextlib.aclosing`).

        Raises:
            Damaged: the digest or the size is another one.
            RegistryError: as it says.
        """
        digest, received, failures = hashlib.sha256(), 0, 0
        while received < descriptor.size:
            before = received
            try:
                async for chunk in self._rest(repository, descriptor, credentials, received):
                    received += len(chunk)
                    if received > descriptor.size:
                        raise Damaged(
                            f"{repository}: {descriptor.digest} has more than {descriptor.size} bytes"
                        )
                    digest.update(chunk)
                    yield chunk
            except Unreachable as error:
                # Who breaks off after every byte is as slow as who sends them one by one.
                patience = self._transport.patience
                failures = 1 if received - before >= patience.least.bytes else failures + 1
                if failures >= patience.attempts:
                    raise
                await self._transport.pause(failures - 1, error)
            else:
                break
        found = f"sha256:{digest.hexdigest()}"
        if received != descriptor.size or found != descriptor.digest:
            raise Damaged(
                f"{repository}: {descriptor.digest} of {descriptor.size} bytes came as {found} of {received} bytes"
            )

    async def _rest(
        self, repository: Repository, descriptor: Descriptor, credentials: Credentials, offset: int
    ) -> AsyncIterator[bytes]:
        """What comes after `offset`, until the connection ends; raises Unreachable if it breaks off or hardly moves."""

        async def begin(
            target: Target, credential: Credential | None, attempts: int
        ) -> aiohttp.ClientResponse:
            headers = {"Range": f"bytes={offset}-"} if offset else {}
            return await self._transport.ask("GET", target, credential, headers, attempts=attempts)

        answer = await self._anywhere(repository, credentials, "blobs", descriptor.digest, begin)
        async with answer:
            skip = offset if answer.status == 200 else _check_range(answer, offset)
            async for chunk in self._transport.pieces(answer, f"{repository}: {descriptor.digest}"):
                skipped = min(skip, len(chunk))
                skip -= skipped
                if skipped < len(chunk):
                    yield chunk[skipped:]

    async def _anywhere(
        self,
        repository: Repository,
        credentials: Credentials,
        kind: str,
        what: str,
        ask: Callable[[Target, Credential | None, int], Awaitable[Result]],
    ) -> Result:
        """The first answer that is to be had, from each server and with each credential in turn.

        The last server's error is the one that counts: those before are mirrors of it.
        """
        logins: Sequence[Credential | None] = await credentials.of(repository) or (None,)
        endpoints = self._endpoints.of(repository.registry)
        for number, endpoint in enumerate(endpoints, 1):
            last = number == len(endpoints)
            target = Target(endpoint, repository, kind, what)
            try:
                return await self._with_any(
                    target, logins, ask, self._transport.patience.attempts if last else 1
                )
            except (NotFound, Denied, TooMany, Unreachable):
                if last:
                    raise
        raise AssertionError("a registry without servers")

    async def _with_any(
        self,
        target: Target,
        logins: Sequence[Credential | None],
        ask: Callable[[Target, Credential | None, int], Awaitable[Result]],
        attempts: int,
    ) -> Result:
        for credential in logins[:-1]:
            try:
                return await ask(target, credential, attempts)
            except (Denied, NotFound):
                # Also NotFound: some registries do not admit what one may not see.
                continue
        return await ask(target, logins[-1], attempts)


def _checked(reference: Reference, found: Manifest, told: str) -> Manifest:
    for expected in filter(None, (reference.digest, told if is_digest(told) else "")):
        if found.digest != expected:
            raise Damaged(f"{reference}: expected {expected}, came {found.digest}")
    if found.media_type not in manifests.INDEXES | manifests.MANIFESTS:
        raise NotAnImage(
            f"{reference}: is {found.media_type}; expected an image of OCI or of Docker's format 2"
        )
    return found


def _check_range(answer: aiohttp.ClientResponse, offset: int) -> int:
    """Nothing to skip, if the part that came is the one that was asked for."""
    told = answer.headers.get("Content-Range", "")
    if not told.startswith(f"bytes {offset}-"):
        raise Unreachable(f"{answer.url.origin()}: asked for bytes from {offset} on, came {told or 'none'}")
    return 0


def _platform_of(manifest: Manifest, config: bytes) -> str:
    try:
        fields = msgspec.json.decode(config, type=dict)
    except msgspec.DecodeError as error:
        raise NotAnImage(f"{manifest.digest}: its configuration is no JSON object") from error
    return manifests.platform_name(fields)


@asynccontextmanager
async def open_registries(
    clock: Clock,
    *,
    mirrors: Mapping[str, Sequence[str]] | None = None,
    patience: Patience | None = None,
) -> AsyncIterator[Registries]:
    """Registries for the life of the process; `mirrors` as in `Endpoints`.

    Raises ValueError for a mirror that is no URL.
    """
    endpoints = Endpoints(mirrors)
    # What is fetched is checked against its digest, byte for byte: nothing may be unpacked on the way.
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=GuardedResolver(), limit=0, limit_per_host=0),
        headers={"Accept-Encoding": "identity", "User-Agent": "kip"},
        auto_decompress=False,
    ) as session:
        yield Registries(Transport(session, clock, patience or Patience()), endpoints)
