"""One request to one server of a registry: login, redirects, and what its answers mean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
import msgspec
from yarl import URL

from kip.model.backoff import Backoff
from kip.model.clock import Clock
from kip.oci import guard
from kip.oci.credentials import Credential
from kip.oci.endpoints import Endpoint
from kip.oci.errors import Denied, NotFound, RegistryError, TooMany, TooSlow, Unreachable
from kip.oci.pace import Least, Pace
from kip.oci.reference import Repository
from kip.oci.tokens import Place, Tokens, challenges_of

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_MOST_REDIRECTS = 5
_LARGEST_TOKEN = 1 << 20
# Of an error's body: a registry's own are some hundred bytes.
_LARGEST_ERROR = 16 << 10
_LONGEST_WORDS = 300
_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a registry is waited for. Times in seconds."""

    attempts: int = 4
    """First one included, of a request that got no answer, or 429 or 5xx."""
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=0.5, limit_s=8.0))
    longest_wait_s: float = 30.0
    """A registry that wants a longer pause (Retry-After) is given up."""
    connect_s: float = 5.0
    answer_s: float = 60.0
    """Until an answer has begun: its status and all headers."""
    silence_s: float = 30.0
    """Between two pieces of an answer."""
    least: Least = field(default_factory=Least)
    """Of an answer, once it has begun. Of a blob it also has to come between two connections that break."""


@dataclass(frozen=True, slots=True)
class Target:
    """Something in a repository, at one server of it."""

    endpoint: Endpoint
    repository: Repository
    kind: str
    """`manifests` or `blobs`."""
    what: str

    @property
    def url(self) -> URL:
        return URL(self.endpoint.url(self.repository, self.kind, self.what), encoded=True)

    @property
    def place(self) -> Place:
        return Place(self.endpoint.root, self.repository.path)


class Transport:
    """Requests to registries over one connection pool, whose logins it remembers."""

    def __init__(self, session: aiohttp.ClientSession, clock: Clock, patience: Patience) -> None:
        self._session = session
        self._clock = clock
        self._patience = patience
        self._tokens = Tokens(self._fetch_token, clock)

    @property
    def patience(self) -> Patience:
        return self._patience

    async def ask(
        self,
        method: str,
        target: Target,
        credential: Credential | None,
        headers: Mapping[str, str],
        *,
        attempts: int,
    ) -> aiohttp.ClientResponse:
        """A good answer, after so many attempts at most. Its body is still to be read, and it to be closed.

        Raises RegistryError.
        """
        for failures in range(attempts):
            try:
                return await self._authorized(method, target, credential, headers)
            except (TooMany, Unreachable) as error:
                if failures + 1 == attempts:
                    raise
                await self.pause(failures, error)
        raise AssertionError("attempts: expected at least 1")

    async def pause(self, failures: int, error: RegistryError) -> None:
        """Wait before the next attempt; raises the error instead if the registry wants a longer pause than we have."""
        wait_s = self._patience.backoff.delay_s(failures)
        if isinstance(error, TooMany) and error.retry_after_s is not None:
            wait_s = error.retry_after_s
        if wait_s > self._patience.longest_wait_s:
            raise error
        await self._clock.sleep(wait_s)

    async def _authorized(
        self, method: str, target: Target, credential: Credential | None, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        known = self._tokens.known(target.place, credential)
        response = await self._send(method, target.url, headers, known)
        # Where a registry has led us to does not say to whom its password goes.
        if response.status == 401 and response.url.origin() == target.url.origin():
            wanted = challenges_of(response)
            response.release()
            self._tokens.forget(target.place, credential)
            try:
                login = await self._tokens.log_in(
                    target.place, credential, wanted, secure=target.url.scheme == "https"
                )
            except Denied as error:
                raise Denied(f"{target.url.origin()}: {error}") from error
            response = await self._send(method, target.url, headers, login)
        if response.status in (200, 206):
            return response
        raise await self._error(response, f"{method} {target.url}")

    async def _send(
        self, method: str, url: URL, headers: Mapping[str, str], authorization: str
    ) -> aiohttp.ClientResponse:
        """Follows redirects; what a registry is told to trust us by stays with that registry."""
        patience = self._patience
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=patience.connect_s, sock_read=patience.silence_s
        )
        trusted = url.origin()
        for _ in range(_MOST_REDIRECTS + 1):
            own = url.origin() == trusted
            sent = {**headers, **({"Authorization": authorization} if authorization and own else {})}
            try:
                async with asyncio.timeout(patience.answer_s):
                    response = await self._session.request(
                        method, guard.check(url), headers=sent, allow_redirects=False, timeout=timeout
                    )
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise Unreachable(f"{method} {url.origin()}: {str(error) or type(error).__name__}") from error
            if response.status not in _REDIRECTS:
                return response
            location = response.headers.get("Location", "")
            response.release()
            try:
                # Signed URLs count as they are written.
                url = url.join(URL(location, encoded=True))
            except ValueError as error:
                raise Unreachable(f"{method} {url.origin()}: redirected to what is no URL") from error
            if not own:
                # Neither comes back what has once been led away.
                authorization = ""
        raise Unreachable(f"{method} {trusted}: more than {_MOST_REDIRECTS} redirects")

    async def _fetch_token(self, url: URL, authorization: str) -> bytes:
        response = await self._send("GET", url, {"Accept": "application/json"}, authorization)
        if response.status == 200:
            return await self.read(response, _LARGEST_TOKEN)
        error = await self._error(response, f"a token from {url.origin()}")
        if isinstance(error, (TooMany, Unreachable)):
            raise error
        # Whatever else it says, no token is to be had with this login.
        raise Denied(str(error)) from error

    async def read(self, response: aiohttp.ClientResponse, limit: int) -> bytes:
        """The whole body. Raises Unreachable when it breaks off, is too slow, or longer than `limit` bytes."""
        body = bytearray()
        async with response:
            async for chunk in self.pieces(response, str(response.url.origin())):
                body += chunk
                if len(body) > limit:
                    raise Unreachable(f"{response.url.origin()}: an answer of more than {limit} bytes")
        return bytes(body)

    async def pieces(self, response: aiohttp.ClientResponse, what: str) -> AsyncIterator[bytes]:
        """The body, as it comes. Raises Unreachable when it breaks off, TooSlow when hardly anything comes."""
        pace = Pace(self._patience.least)
        try:
            asked = self._clock.monotonic()
            async for chunk in response.content.iter_chunked(_CHUNK):
                if slow := pace.too_slow(len(chunk), self._clock.monotonic() - asked):
                    raise TooSlow(f"{what}: too slow: {slow}")
                yield chunk
                asked = self._clock.monotonic()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{what} broke off: {str(error) or type(error).__name__}") from error

    async def _error(self, response: aiohttp.ClientResponse, what: str) -> RegistryError:
        """What an answer without success means."""
        try:
            words = _words(await self.read(response, _LARGEST_ERROR))
        except Unreachable:
            words = ""
        return _meaning(response, what, words)


def _meaning(response: aiohttp.ClientResponse, what: str, words: str) -> RegistryError:
    status = response.status
    text = f"{what}: {status} {response.reason or ''}".rstrip() + (f", {words}" if words else "")
    match status:
        case 401 | 403:
            return Denied(text)
        case 404:
            return NotFound(text)
        case 429:
            return TooMany(text, retry_after_s=_retry_after_s(response.headers.get("Retry-After", "")))
        case 503 if response.headers.get("Retry-After"):
            return TooMany(text, retry_after_s=_retry_after_s(response.headers["Retry-After"]))
        case 408:
            return Unreachable(text)
        case _ if status >= 500:
            return Unreachable(text)
        case _:
            return RegistryError(text)


def _words(body: bytes) -> str:
    """The error in the specification's form and nothing else: what came may not be a registry's, nor for all eyes."""
    try:
        found = msgspec.json.decode(body)
        texts = [": ".join(filter(None, (e.get("code"), e.get("message")))) for e in found["errors"]]
        return "; ".join(texts)[:_LONGEST_WORDS]
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return ""


def _retry_after_s(value: str) -> float | None:
    """Seconds, or a date (RFC 9110, 10.2.3)."""
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
