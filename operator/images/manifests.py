"""What of an index is wanted, and what layers an image consists of: decisions about manifests, without a registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kip.images.format import FormatError, Layer, check_digest
from kip.oci import manifest as oci
from kip.oci.errors import NotAnImage
from kip.oci.manifest import Descriptor, Manifest, platform_name

# Of layers: the part before a compression. Foreign layers are those that a registry may not hand out (Windows' base).
_LAYERS = ("application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar")
_MOST_LAYERS = 500  # OVL_MAX_STACK in the kernel's fs/overlayfs
_FOREIGN = (
    "application/vnd.oci.image.layer.nondistributable.",
    "application/vnd.docker.image.rootfs.foreign.",
)


def wanted(found: Mapping[str, Descriptor], platforms: Sequence[str]) -> tuple[Descriptor, ...]:
    """An index's images for these platforms, in their order. Raises NotAnImage if there is none."""
    chosen = tuple(found[platform] for platform in dict.fromkeys(platforms) if platform in found)
    if not chosen:
        has = ", ".join(sorted(found)) or "none"
        raise NotAnImage(f"no image for {' or '.join(platforms)}; the index has {has}")
    return chosen


def describe(manifest: Manifest, config: bytes) -> tuple[str, tuple[Layer, ...]]:
    """The image's platform and its layers. Raises NotAnImage if no cell could run it, or if the two do not fit together."""
    fields = _configuration(manifest, config)
    blobs = [_layer(manifest, each) for each in oci.entries(manifest, manifest.fields().get("layers") or [])]
    if len(blobs) > _MOST_LAYERS:
        raise NotAnImage(f"{manifest.digest}: {len(blobs)} layers; overlayfs takes {_MOST_LAYERS}")
    try:
        diff_ids = [check_digest(each) for each in fields["rootfs"]["diff_ids"]]
    except (KeyError, TypeError, FormatError) as error:
        raise NotAnImage(f"{manifest.digest}: the configuration names no layers ({error!r})") from error
    if len(diff_ids) != len(blobs) or not blobs:
        raise NotAnImage(
            f"{manifest.digest}: {len(blobs)} layers in the manifest, {len(diff_ids)} in the configuration"
        )
    platform = platform_name(fields)
    if not platform.startswith("linux/"):
        raise NotAnImage(f"{manifest.digest}: an image for {platform or 'no platform'}; cells run Linux")
    layers = zip(diff_ids, blobs, strict=True)
    return platform, tuple(Layer(diff_id, blob.digest, blob.size) for diff_id, blob in layers)


def _configuration(manifest: Manifest, config: bytes) -> dict[str, Any]:
    fields = oci.json_object(config)
    if fields is None:
        raise NotAnImage(f"{manifest.digest}: its configuration is no JSON object")
    return fields


def _layer(manifest: Manifest, entry: Any) -> Descriptor:
    found = oci.descriptor(manifest, entry)
    if found.media_type.startswith(_FOREIGN):
        raise NotAnImage(f"{manifest.digest}: a layer that registries may not hand out ({found.media_type})")
    if not found.media_type.startswith(_LAYERS):
        raise NotAnImage(f"{manifest.digest}: a layer that is no file system but {found.media_type}")
    return found
