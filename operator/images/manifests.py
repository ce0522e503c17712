"""What a manifest, an index and a configuration say, and whether that is an image which a cell could run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kip.images.errors import NotAnImage
from kip.images.format import FormatError, Layer, check_digest

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
_CONFIGS = {
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
    # Old Docker wrote that, and containerd's client takes it (core/images/mediatypes.go).
    "application/octet-stream",
}
# Of layers: the part before a compression. Foreign layers are those that a registry may not hand out (Windows' base).
_LAYERS = ("application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar")
_FOREIGN = (
    "application/vnd.oci.image.layer.nondistributable.",
    "application/vnd.docker.image.rootfs.foreign.",
)


@dataclass(frozen=True)
class Offer:
    """One image of an index."""

    platform: str
    """Such as linux/arm64 or linux/arm/v7."""
    digest: str


@dataclass(frozen=True)
class Blob:
    """A descriptor: what a manifest says about a blob."""

    digest: str
    size: int
    """Bytes."""
    media_type: str


@dataclass(frozen=True)
class Manifest:
    """A manifest of one image."""

    config: Blob
    layers: tuple[Blob, ...]


def offers(index: bytes) -> tuple[Offer, ...] | None:
    """The images in an index; None if it is no index but a manifest. Raises NotAnImage if it is neither."""
    fields = _json(index, "manifest")
    if not isinstance(fields.get("manifests"), list):
        if "config" in fields and isinstance(fields.get("layers"), list):
            return None
        raise NotAnImage(f"neither an index nor a manifest with configuration and layers: {_kind(fields)}")
    found = [_offer(entry) for entry in fields["manifests"] if isinstance(entry, dict)]
    return tuple(offer for offer in found if offer)


def parse_manifest(content: bytes) -> Manifest:
    """Reads an image's manifest. Raises NotAnImage if its configuration or a layer is of a kind that no container has."""
    fields = _json(content, "manifest")
    try:
        config = _blob(fields["config"])
        layers = tuple(map(_blob, fields["layers"]))
    except (KeyError, TypeError, ValueError) as error:
        raise NotAnImage(f"the manifest is not right: {error!r}") from error
    if config.media_type not in _CONFIGS:
        raise NotAnImage(f"not a container image but {fields.get('artifactType') or config.media_type}")
    for layer in layers:
        if layer.media_type.startswith(_FOREIGN):
            raise NotAnImage(f"layer {layer.digest} is not the registry's to hand out ({layer.media_type})")
        if not layer.media_type.startswith(_LAYERS):
            raise NotAnImage(f"layer {layer.digest} is no file system but {layer.media_type}")
    return Manifest(config, layers)


def describe(manifest: Manifest, config: bytes) -> tuple[str, tuple[Layer, ...]]:
    """The image's platform and its layers. Raises NotAnImage if configuration and manifest do not fit together."""
    fields = _json(config, "configuration")
    try:
        diff_ids = [check_digest(each) for each in fields["rootfs"]["diff_ids"]]
    except (KeyError, TypeError, FormatError) as error:
        raise NotAnImage(f"the configuration names no layers: {error!r}") from error
    if len(diff_ids) != len(manifest.layers):
        raise NotAnImage(
            f"{len(manifest.layers)} layers in the manifest, {len(diff_ids)} in the configuration"
        )
    if not diff_ids:
        raise NotAnImage("an image without layers")
    platform = platform_of(fields)
    if not platform.startswith("linux/"):
        raise NotAnImage(f"an image for {platform}; cells run Linux")
    pairs = zip(diff_ids, manifest.layers, strict=True)
    return platform, tuple(Layer(diff_id, blob.digest, blob.size) for diff_id, blob in pairs)


def platform_of(fields: Mapping[str, Any]) -> str:
    """`os/architecture[/variant]`, with the variants left out that say nothing: arm64's v8 and amd64's v1."""
    system, architecture = fields.get("os") or "linux", fields.get("architecture") or "unknown"
    variant = fields.get("variant") or ""
    if (architecture, variant) in {("arm64", "v8"), ("arm64", "8"), ("amd64", "v1")}:
        variant = ""
    return "/".join(part for part in (system, architecture, variant) if part)


def wanted_offers(found: Sequence[Offer], platforms: Sequence[str]) -> tuple[Offer, ...]:
    """The first offer for each platform, in their order: containerd takes the first as well. Raises NotAnImage if none."""
    first = {offer.platform: offer for offer in reversed(found)}
    chosen = tuple(first[platform] for platform in dict.fromkeys(platforms) if platform in first)
    if not chosen:
        has = ", ".join(sorted(first)) or "none"
        raise NotAnImage(f"no image for {' or '.join(platforms)}; the index has {has}")
    return chosen


def _offer(entry: Mapping[str, Any]) -> Offer | None:
    """None for what is beside the images: BuildKit's attestations have the platform unknown/unknown."""
    platform = entry.get("platform")
    if not isinstance(platform, dict) or platform.get("os") == "unknown":
        return None
    try:
        return Offer(platform_of(platform), check_digest(entry["digest"]))
    except (KeyError, TypeError, FormatError) as error:
        raise NotAnImage(f"the index is not right: {error!r}") from error


def _blob(fields: Mapping[str, Any]) -> Blob:
    return Blob(check_digest(fields["digest"]), int(fields["size"]), str(fields.get("mediaType", "")))


def _json(content: bytes, what: str) -> dict[str, Any]:
    try:
        fields = json.loads(content)
    except ValueError as error:
        raise NotAnImage(f"the {what} is no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise NotAnImage(f"the {what} is no JSON object")
    return fields


def _kind(fields: Mapping[str, Any]) -> str:
    if fields.get("schemaVersion") == 1:
        return "Docker's schema 1, which containerd does not pull any more"
    return str(fields.get("mediaType") or "no media type")
