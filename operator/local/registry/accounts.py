"""Repositories that want a login, as private ones do: listed in a file of the registry's directory, read at each request.

    {"private.kip.local/team": {"username": "ann", "password": "secret", "scheme": "bearer"}}

Reading from a repository whose name begins like that needs this login, in one of the two ways there are: `bearer`, where
a token is got at /token first, or `basic`. Whatever is put here is put by this machine's own tools, without a login.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import hdrs, web

from kip.local.registry.errors import RegistryError
from kip.oci.reference import Repository

FILE = "accounts.json"

_TOKEN_S = 60
_READING = frozenset((hdrs.METH_GET, hdrs.METH_HEAD))


@dataclass(frozen=True, slots=True)
class Account:
    """Who may read what begins with `prefix`."""

    prefix: str
    username: str
    password: str
    scheme: str = "bearer"

    def takes(self, authorization: str) -> bool:
        """Whether it is this account's Basic authorization."""
        scheme, _, text = authorization.partition(" ")
        try:
            told = base64.b64decode(text, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return False
        return scheme.lower() == "basic" and secrets.compare_digest(told, f"{self.username}:{self.password}")


@dataclass
class Accounts:
    """The accounts of one registry, and the tokens it has given."""

    directory: Path
    _tokens: dict[str, tuple[str, float]] = field(default_factory=dict)

    def check(self, request: web.Request, repository: Repository) -> None:
        """Raises RegistryError (401) where a login is needed and none came."""
        account = self._of(f"{repository.registry}/{repository.path}")
        authorization = request.headers.get(hdrs.AUTHORIZATION, "")
        if account is None or request.method not in _READING or account.takes(authorization):
            return
        scheme, _, token = authorization.partition(" ")
        path, until = self._tokens.get(token, ("", 0.0))
        if scheme.lower() == "bearer" and path == str(repository) and time.monotonic() < until:
            return
        raise Unauthorized(_challenge(request, account, repository))

    def token(self, request: web.Request) -> web.Response:
        """Gives a token for one repository to whoever has its account."""
        _, _, rest = request.query.get("scope", "").partition(":")
        name = f"{request.query.get('service', '')}/{rest.rpartition(':')[0]}"
        account = self._of(name)
        if account is None or not account.takes(request.headers.get(hdrs.AUTHORIZATION, "")):
            raise RegistryError(401, "UNAUTHORIZED", f"no token for {name} with this login")
        token = secrets.token_urlsafe(24)
        self._tokens[token] = (name, time.monotonic() + _TOKEN_S)
        return web.json_response({"token": token, "expires_in": _TOKEN_S})

    def _of(self, name: str) -> Account | None:
        try:
            listed = json.loads((self.directory / FILE).read_text())
        except FileNotFoundError:
            return None
        return next(
            (Account(prefix, **rest) for prefix, rest in listed.items() if name.startswith(prefix)), None
        )


class Unauthorized(RegistryError):
    """A login is wanted, in the way that the challenge says."""

    def __init__(self, challenge: str) -> None:
        super().__init__(401, "UNAUTHORIZED", "a login is needed")
        self.challenge = challenge

    def response(self) -> web.Response:
        answer = super().response()
        answer.headers[hdrs.WWW_AUTHENTICATE] = self.challenge
        return answer


def _challenge(request: web.Request, account: Account, repository: Repository) -> str:
    if account.scheme == "basic":
        return 'Basic realm="kip"'
    # The service is the registry that is meant, as one server here is all of them.
    realm = request.url.origin() / "token"
    return f'Bearer realm="{realm}",service="{repository.registry}",scope="repository:{repository.path}:pull"'
