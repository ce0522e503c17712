"""What an image's name says: registry, repository and tag or digest.

The grammar is the OCI distribution specification's; that a short name means Docker Hub is Docker's convention,
which containerd and the kubelet follow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DOCKER_HUB = "docker.io"

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
class ImageName:
    """A repository and the tag of one image in it."""

    repository: Repository
    tag: str

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}"


def parse_image(name: str) -> ImageName:
    """Reads a name as `docker pull` does: `nginx` is `docker.io/library/nginx:latest`.

    Raises:
        InvalidName: it is no image's name.
    """
    rest, _, _ = name.partition("@")
    head, _, last = rest.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and not is_tag(tag):
        raise InvalidName(f"image {name!r}: {tag!r} is no tag")
    return ImageName(split_repository(f"{head}/{last}" if head else last), tag or "latest")


def split_repository(name: str, *, default: str = DOCKER_HUB) -> Repository:
    """Reads `quay.io/team/app` or, without a registry in it, a repository of the default one.

    Raises:
        InvalidName: it names no repository.
    """
    first, slash, rest = name.partition("/")
    if slash and names_registry(first):
        return Repository(first, rest)
    if default == DOCKER_HUB and not slash:
        name = f"library/{name}"
    return Repository(default, name)


def names_registry(component: str) -> bool:
    """Whether the first component of a name is a registry's host and not a part of the repository."""
    return "." in component or ":" in component or component == "localhost"


def is_tag(text: str) -> bool:
    """Whether it can be an image's tag."""
    return _TAG.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """Whether it is a SHA-256 digest, the only kind that is kept here."""
    return _DIGEST.fullmatch(text) is not None
