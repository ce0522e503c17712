"""Manifests and indexes, of OCI and of Docker alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kip.oci.errors import NotAnImage
from kip.oci.reference import is_digest

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"

INDEXES = frozenset((OCI_INDEX, DOCKER_LIST))
MANIFESTS = frozenset((OCI_MANIFEST, DOCKER_MANIFEST))
ACCEPT = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST))

#: Bytes; what the distribution specification asks registries to take at least, and containerd takes at most.
LARGEST = 4 << 20

# Configurations of images; those of Helm charts, signatures and the like are of other types.
_CONFIGS = frozenset(
    (
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
        # Old Docker wrote that, and containerd takes it (core/images/mediatypes.go).
        "application/octet-stream",
    )
)
# What a machine reports for itself and images say redundantly or not at all (containerd, platforms/normalize).
_USUAL = frozenset(("linux/arm64/v8", "linux/amd64/v1"))


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob or manifest: what it is, its digest, its size in bytes."""

    media_type: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The bytes of a manifest or an index, as the registry gave them and as their digest is of."""

    digest: str
    media_type: str
    content: bytes

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEXES

    def fields(self) -> dict[str, Any]:
        """Raises NotAnImage."""
        fields = json_object(self.content)
        if fields is None:
            raise NotAnImage(f"{self.digest}: the manifest is no JSON object")
        if fields.get("schemaVersion") != 2:
            raise NotAnImage(f"{self.digest}: expected a manifest of schemaVersion 2")
        others = ("config", "layers") if self.is_index else ("manifests",)
        if fields.get("mediaType", self.media_type) != self.media_type or any(map(fields.get, others)):
            # One digest that is an image for some and an index for others: containerd refuses that too.
            raise NotAnImage(f"{self.digest}: came as {self.media_type}, and its content is of another kind")
        return fields


def json_object(content: bytes) -> dict[str, Any] | None:
    """A JSON object of somebody else's; None for all that is none."""
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):  # the latter for brackets in brackets by the thousand
        return None
    return fields if isinstance(fields, dict) else None


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def platform_name(described: Mapping[str, Any]) -> str:
    """Such as linux/arm64 or linux/arm/v7, of an index's `platform` or of an image's configuration."""
    parts = (described.get("os"), described.get("architecture"), described.get("variant"))
    name = "/".join(str(part) for part in parts if part)
    return name.rpartition("/")[0] if name in _USUAL else name


def platforms(index: Manifest) -> dict[str, Descriptor]:
    """The images of an index by platform; of two for the same one the first counts, as with containerd.

    Raises:
        NotAnImage: a descriptor is malformed.
    """
    found: dict[str, Descriptor] = {}
    for entry in entries(index, index.fields().get("manifests")):
        described = entry.get("platform") or {}
        if not isinstance(described, dict):
            raise NotAnImage(f"{index.digest}: a platform that is no JSON object")
        # Attestations and the like are listed as images of platform unknown/unknown.
        if described.get("os", "unknown") != "unknown" and str(entry.get("mediaType")) in MANIFESTS:
            found.setdefault(platform_name(described), descriptor(index, entry))
    return found


def config_of(manifest: Manifest) -> Descriptor:
    """An image's configuration.

    Raises:
        NotAnImage: it is another kind of artifact, or malformed.
    """
    config = descriptor(manifest, manifest.fields().get("config"))
    if config.media_type not in _CONFIGS:
        raise NotAnImage(
            f"{manifest.digest}: its configuration is {config.media_type}, that of no container image"
        )
    return config


def entries(of: Manifest, listed: Any) -> list[dict[str, Any]]:
    """A list of descriptors, as far as that goes. Raises NotAnImage."""
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise NotAnImage(f"{of.digest}: expected a list of descriptors")
    return listed


def descriptor(of: Manifest, entry: Any) -> Descriptor:
    """One of them. Raises NotAnImage."""
    try:
        found = Descriptor(str(entry["mediaType"]), str(entry["digest"]), int(entry["size"]))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise NotAnImage(f"{of.digest}: a malformed descriptor ({error!r})") from error
    if not is_digest(found.digest) or found.size < 0:
        raise NotAnImage(f"{of.digest}: {found.digest!r} of {found.size} bytes; expected a SHA-256 digest")
    return found
