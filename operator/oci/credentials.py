"""Which login belongs to which image, found as the kubelet finds it.

The rules are those of k8s.io/kubernetes/pkg/credentialprovider (keyring.go, config.go, secrets/secrets.go, 1.36): all that
match are tried, those for longer names first; whoever has some is never anonymous.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol

from kip.oci.reference import DOCKER_HUB, Repository

_TYPES = {"kubernetes.io/dockerconfigjson": ".dockerconfigjson", "kubernetes.io/dockercfg": ".dockercfg"}
# As `docker login` without a name writes it, and as the kubelet looks it up for Docker Hub.
_DOCKER_HUB_KEY = "index.docker.io"


@dataclass(frozen=True, slots=True)
class Credential:
    """A user and a password, for whichever way the registry wants to have them."""

    username: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    @property
    def fingerprint(self) -> str:
        """Tells this credential from others without telling what it is."""
        return hashlib.sha256(f"{self.username}\0{self.password}".encode()).hexdigest()


class CredentialError(ValueError):
    """A secret or file with credentials is malformed. The text never has anything out of it but names."""


class Credentials(Protocol):
    """Where logins come from."""

    async def of(self, repository: Repository) -> tuple[Credential, ...]:
        """Those to try in turn; none means anonymously."""
        ...


class Keyring:
    """Credentials by the names of registries and repositories that they are for."""

    def __init__(self, entries: Iterable[tuple[str, Credential]] = ()) -> None:
        self._entries: dict[str, list[Credential]] = {}
        for name, credential in entries:
            self._entries.setdefault(_key(name), []).append(credential)

    async def of(self, repository: Repository) -> tuple[Credential, ...]:
        """As `lookup`."""
        return self.lookup(repository)

    def lookup(self, repository: Repository) -> tuple[Credential, ...]:
        """All that are for the repository, the most specific first."""
        matching = [key for key in sorted(self._entries, reverse=True) if _matches(key, repository)]
        if not matching and repository.registry == DOCKER_HUB:
            matching = [key for key in (_DOCKER_HUB_KEY,) if key in self._entries]
        return tuple(credential for key in matching for credential in self._entries[key])


ANONYMOUS = Keyring()


class Both:
    """The credentials of one source, and after them those of another."""

    def __init__(self, first: Credentials, second: Credentials) -> None:
        self._sources = (first, second)

    async def of(self, repository: Repository) -> tuple[Credential, ...]:
        return tuple([credential for source in self._sources for credential in await source.of(repository)])


def from_secrets(secrets: Iterable[Mapping[str, Any]]) -> Keyring:
    """The keyring of a pod with these imagePullSecrets (v1 Secrets as the API server gives them).

    Raises:
        CredentialError: one is malformed; as with the kubelet, then none of them counts.
    """
    entries: list[tuple[str, Credential]] = []
    for secret in secrets:
        key = _TYPES.get(secret.get("type", ""), "")
        content = (secret.get("data") or {}).get(key)
        if content:
            metadata = secret["metadata"]
            where = f"secret {metadata.get('namespace', '')}/{metadata['name']}"
            entries += _entries(where, _decoded(where, content), nested=key == ".dockerconfigjson")
    return Keyring(entries)


def from_docker_config(content: bytes, where: str) -> Keyring:
    """The keyring of a `config.json` as `docker login` writes it; `where` is for errors.

    Raises:
        CredentialError: it is malformed, or the logins are with a credential helper, which is a program elsewhere.
    """
    config = _object(where, content)
    if not config.get("auths") and (config.get("credsStore") or config.get("credHelpers")):
        raise CredentialError(
            f"{where}: the logins are with a credential helper; expected them in the file (auths)"
        )
    return Keyring(_entries(where, content, nested=True))


def _decoded(where: str, content: str) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error as error:
        raise CredentialError(f"{where}: its data is no base64") from error


def _entries(where: str, content: bytes, *, nested: bool) -> list[tuple[str, Credential]]:
    config = _object(where, content)
    logins = config.get("auths", {}) if nested else config
    if not isinstance(logins, dict):
        raise CredentialError(f"{where}: auths: expected a mapping of registries")
    return [(name, _credential(f"{where}: {name}", login)) for name, login in logins.items()]


def _object(where: str, content: bytes) -> dict[str, Any]:
    try:
        config = json.loads(content)
    except ValueError:
        config = None
    if not isinstance(config, dict):
        # Not the parser's own words: they may quote what is in it.
        raise CredentialError(f"{where}: expected a JSON object")
    return config


def _credential(where: str, login: Any) -> Credential:
    """`auth` is base64 of user:password and wins over the two in clear."""
    if not isinstance(login, dict):
        raise CredentialError(f"{where}: expected username and password, or auth")
    if not login.get("auth"):
        return Credential(str(login.get("username") or ""), str(login.get("password") or ""))
    try:
        text = str(login["auth"]).strip()
        padded = text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)
        username, colon, password = base64.b64decode(padded, validate=True).decode().partition(":")
    except ValueError:
        colon = username = password = ""
    if not colon:
        raise CredentialError(f"{where}: auth: expected base64 of user:password")
    return Credential(username, password)


def _key(name: str) -> str:
    """`https://quay.io/v2/team/` is `quay.io/team/`, and the pure host without its slash."""
    host, slash, path = name.removeprefix("https://").removeprefix("http://").partition("/")
    if path.startswith(("v1/", "v2/")):
        path = path[3:]
    return f"{host}{slash}{path}" if path else host


def _matches(key: str, repository: Repository) -> bool:
    """Globs count within one part of the host's name; the path is a prefix, and not one of whole components."""
    host, slash, path = key.partition("/")
    pattern, port = _split_port(host)
    name, asked_port = _split_port(repository.registry)
    globs, parts = pattern.split("."), name.split(".")
    return (
        port == asked_port
        and len(globs) == len(parts)
        and f"/{repository.path}".startswith(slash + path)
        and all(fnmatchcase(part, glob) for part, glob in zip(parts, globs, strict=True))
    )


def _split_port(host: str) -> tuple[str, str]:
    name, _, port = host.partition(":")
    return name, port
