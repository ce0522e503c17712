"""What the registry asks of a manifest before it takes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kip.local.registry import errors

#: Bytes; what the OCI distribution specification asks a registry to take at least.
LARGEST = 4 << 20

_INDEXES = frozenset(
    {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)
_IMAGES = frozenset(
    {
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    }
)


def check(content: bytes, told: str, has_blob: Callable[[str], bool]) -> str:
    """Returns the manifest's media type; `told` is the one in the request's header.

    An index may speak of manifests that are not here (other architectures); an image has to be complete.

    Raises:
        RegistryError: it is no manifest, or a blob of it was not uploaded.
    """
    manifest = parse(content)
    media_type = str(manifest.get("mediaType", told))
    if media_type != told:
        raise errors.manifest_invalid(f"its mediaType is {media_type}, its Content-Type {told}")
    if media_type in _INDEXES:
        return media_type
    if media_type not in _IMAGES:
        raise errors.manifest_invalid(
            f"media type {media_type} is not known; expected one of {', '.join(sorted(_IMAGES | _INDEXES))}"
        )
    for digest in blobs(manifest):
        if not has_blob(digest):
            raise errors.manifest_blob_unknown(digest)
    return media_type


def parse(content: bytes) -> dict[str, Any]:
    """Reads a manifest's JSON. Raises RegistryError when it is none."""
    try:
        manifest = json.loads(content)
    except ValueError as error:
        raise errors.manifest_invalid(f"not JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("schemaVersion") != 2:
        raise errors.manifest_invalid("expected a JSON object with schemaVersion 2")
    return manifest


def is_index(manifest: Mapping[str, Any]) -> bool:
    """Whether it lists manifests and is no image itself."""
    return manifest.get("mediaType") in _INDEXES or ("manifests" in manifest and "config" not in manifest)


def blobs(manifest: Mapping[str, Any]) -> Iterator[str]:
    """The digests of an image's configuration and layers, but for layers that are fetched from elsewhere.

    Raises:
        RegistryError: a descriptor is malformed.
    """
    try:
        for descriptor in (manifest["config"], *manifest["layers"]):
            if not descriptor.get("urls"):
                yield str(descriptor["digest"])
    except (KeyError, TypeError, AttributeError) as error:
        raise errors.manifest_invalid(f"malformed descriptors ({error!r})") from error
