"""Logging in to registries: a token for one repository, or the password itself."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
import msgspec
from yarl import URL

from kip.model.clock import Clock
from kip.oci import challenge as challenges
from kip.oci.challenge import Challenge
from kip.oci.credentials import Credential
from kip.oci.errors import Denied, Unreachable

#: Sends a GET with an Authorization header or none, and returns the body of a good answer; raises RegistryError.
Fetch = Callable[[URL, str], Awaitable[bytes]]

# What a token without `expires_in` is good for, and how much earlier than told one is given up
# (distribution/docs/spec/auth/token.md).
_USUAL_S = 60.0
_EARLIER_S = 10.0
_REMEMBERED = 2048


@dataclass(frozen=True, slots=True)
class Place:
    """What a login is for."""

    root: str
    """The server's, as in Endpoint."""
    path: str
    """The repository."""


@dataclass(frozen=True, slots=True)
class _Login:
    authorization: str
    until: float


class Tokens:
    """What registries have let us in with, each for its place and credential alone."""

    def __init__(self, fetch: Fetch, clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._logins: OrderedDict[tuple[Place, str], _Login] = OrderedDict()

    def known(self, place: Place, credential: Credential | None) -> str:
        """The Authorization header that worked before, empty without one."""
        key = (place, _fingerprint(credential))
        login = self._logins.get(key)
        if login is None or login.until <= self._clock.monotonic():
            self._logins.pop(key, None)
            return ""
        self._logins.move_to_end(key)
        return login.authorization

    def forget(self, place: Place, credential: Credential | None) -> None:
        """It did not work any more."""
        self._logins.pop((place, _fingerprint(credential)), None)

    async def log_in(
        self, place: Place, credential: Credential | None, headers: list[str], *, secure: bool
    ) -> str:
        """The Authorization header that answers a refusal with these `WWW-Authenticate` headers.

        `secure`: the registry was asked by TLS, so the password must not leave otherwise.

        Raises:
            Denied: nothing that we have would be accepted.
            TooMany, Unreachable: of the server that gives tokens.
        """
        wanted = challenges.best(challenges.parse(headers))
        if wanted is None:
            raise Denied("it wants a login of a kind that is not known; known are Bearer and Basic")
        if wanted.scheme == "bearer":
            login = await self._token(wanted, place, credential, secure=secure)
        elif credential is None:
            raise Denied("it wants a login, and there is none for it")
        else:
            login = _Login(credential.basic, float("inf"))
        self._logins[place, _fingerprint(credential)] = login
        while len(self._logins) > _REMEMBERED:
            self._logins.popitem(last=False)
        return login.authorization

    async def _token(
        self, wanted: Challenge, place: Place, credential: Credential | None, *, secure: bool
    ) -> _Login:
        url = _token_url(wanted, place)
        if credential is not None and secure and url.scheme != "https":
            raise Denied(f"it sends us to {url.origin()} for a token: no password goes there without TLS")
        asked = self._clock.monotonic()
        body = await self._fetch(url, credential.basic if credential else "")
        try:
            answer = msgspec.json.decode(body, type=dict)
            token = _sendable(answer.get("token") or answer["access_token"])
            lasts_s = float(answer.get("expires_in") or _USUAL_S)
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            raise Unreachable(
                f"{url.origin()} gave no token; expected JSON with token or access_token"
            ) from error
        return _Login(f"Bearer {token}", asked + max(0.0, lasts_s - _EARLIER_S))


def _sendable(token: object) -> str:
    """Raises ValueError for what cannot be in a header."""
    if not isinstance(token, str) or not (token.isascii() and token.isprintable()):
        raise ValueError("no token")
    return token


def _token_url(wanted: Challenge, place: Place) -> URL:
    try:
        realm = URL(wanted.get("realm"))
        realm.origin()
    except ValueError as error:
        raise Denied(f"it sends us to {wanted.get('realm')!r} for a token; expected a URL") from error
    query = {"scope": wanted.get("scope") or f"repository:{place.path}:pull"}
    if service := wanted.get("service"):
        query["service"] = service
    return realm.update_query(query)


def _fingerprint(credential: Credential | None) -> str:
    return credential.fingerprint if credential else ""


def challenges_of(response: aiohttp.ClientResponse) -> list[str]:
    """The headers for `log_in`."""
    return list(response.headers.getall("WWW-Authenticate", ()))
