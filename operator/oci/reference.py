"""What an image's name says: registry, repository, and tag or digest.

The grammar is the OCI distribution specification's; that a short name means Docker Hub is Docker's convention,
which containerd and the kubelet follow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DOCKER_HUB = "docker.io"

# Docker Hub's name in old references and in `docker login`; Docker and containerd take it for the other one.
_OLD_DOCKER_HUB = "index.docker.io"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?")
_LONGEST = 255  # of a registry and repository together, as in Docker's own implementation


class InvalidName(ValueError):
    """A name that no registry would take; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of a registry, whichever machine answers for it."""

    registry: str
    path: str

    def __post_init__(self) -> None:
        if not _HOST.fullmatch(self.registry):
            raise InvalidName(f"registry {self.registry!r}: expected a host name, with a port if need be")
        if not _REPOSITORY.fullmatch(self.path) or len(str(self)) > _LONGEST:
            raise InvalidName(
                f"repository {self.path!r}: expected lower case letters and digits, "
                f"separated by . _ - and /, at most {_LONGEST} characters with its registry"
            )

    def __str__(self) -> str:
        return f"{self.registry}/{self.path}"


@dataclass(frozen=True, slots=True)
class Reference:
    """A repository, and the tag or digest of one image in it. One with a digest is that image and no other, for ever."""

    repository: Repository
    tag: str = ""
    """Empty where there is a digest."""
    digest: str = ""

    @property
    def target(self) -> str:
        """What a registry is asked for: the digest, else the tag."""
        return self.digest or self.tag

    def at(self, digest: str) -> Reference:
        """The image of that digest in the same repository."""
        return Reference(self.repository, digest=digest)

    def __str__(self) -> str:
        """The whole name, the same for all ways to write it: docker.io/library/nginx:1.29."""
        return f"{self.repository}@{self.digest}" if self.digest else f"{self.repository}:{self.tag}"


def parse(name: str) -> Reference:
    """Reads a name as containerd does: `nginx` is `docker.io/library/nginx:latest`; beside a digest a tag means nothing.

    Raises:
        InvalidName: it is no image's name.
    """
    rest, at, digest = name.partition("@")
    if at and not is_digest(digest):
        raise InvalidName(
            f"image {name!r}: {digest!r} is no digest; expected sha256: and 64 hexadecimal digits"
        )
    head, _, last = rest.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and not is_tag(tag):
        raise InvalidName(f"image {name!r}: {tag!r} is no tag")
    repository = split_repository(f"{head}/{last}" if head else last)
    return Reference(repository, digest=digest) if digest else Reference(repository, tag=tag or "latest")


def split_repository(name: str, *, default: str = DOCKER_HUB) -> Repository:
    """Reads `quay.io/team/app` or, without a registry in it, a repository of the default one.

    Raises:
        InvalidName: it names no repository.
    """
    first, slash, rest = name.partition("/")
    if slash and names_registry(first):
        registry, path = DOCKER_HUB if first == _OLD_DOCKER_HUB else first, rest
    else:
        registry, path = default, name
    if registry == DOCKER_HUB and "/" not in path:
        path = f"library/{path}"
    return Repository(registry, path)


def names_registry(component: str) -> bool:
    """Whether the first component of a name is a registry's host and not a part of the repository."""
    # Upper case cannot be a repository's, so the rest of the field takes it for a host too.
    return "." in component or ":" in component or component == "localhost" or component.lower() != component


def is_tag(text: str) -> bool:
    """Whether it can be an image's tag."""
    return _TAG.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """Whether it is a SHA-256 digest, the only kind that is kept here."""
    return _DIGEST.fullmatch(text) is not None
