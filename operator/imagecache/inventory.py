"""What is on the volume, as the decisions want to have it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from kip.imagecache.eviction import CachedImage
from kip.images.errors import VolumeFull
from kip.images.format import Image, Reference
from kip.images.volume import LayerFile, Usage, Volume


@dataclass(frozen=True)
class Inventory:
    """All of a volume at one moment."""

    images: tuple[Image, ...]
    references: tuple[Reference, ...]
    layers: tuple[LayerFile, ...]
    used: Mapping[str, datetime]
    """When each image was last used."""
    usage: Usage

    def cached_images(self) -> list[CachedImage]:
        """For `eviction.plan`."""
        roots: dict[str, set[str]] = {}
        names: dict[str, str] = {}
        for reference in self.references:
            for digest in reference.platforms.values():
                roots.setdefault(digest, set()).add(reference.digest)
                names.setdefault(digest, reference.reference)
        return [
            CachedImage(
                image.digest,
                frozenset(layer.file_id for layer in image.layers),
                # Missing only if it has gone this moment.
                self.used.get(image.digest, image.created),
                frozenset(roots.get(image.digest, ())),
                names.get(image.digest, ""),
            )
            for image in self.images
        ]

    def images_of(self, wanted: Iterable[tuple[str, str]]) -> frozenset[str]:
        """Digests of the images that these pairs of reference and platform lead to."""
        known = {reference.reference: reference.platforms for reference in self.references}
        found = (known.get(name, {}).get(platform) for name, platform in wanted)
        return frozenset(digest for digest in found if digest)

    def file_bytes(self, image: Image) -> int:
        """What an image's layers take on the volume, shared ones included."""
        sizes = {layer.file_id: layer.file_bytes for layer in self.layers}
        return sum(sizes.get(layer, 0) for layer in {layer.file_id for layer in image.layers})

    def missing(self, image: Image) -> tuple[str, ...]:
        """Files of layers that an image should have and has not: it is cached in part only."""
        there = {layer.file_id for layer in self.layers}
        return tuple(layer.file_id for layer in image.layers if layer.file_id not in there)


async def take(volume: Volume) -> Inventory:
    """Looks at everything; raises VolumeUnavailable. Layers come last: those of all images that were seen are in it."""
    references = await volume.references()
    images, used = await volume.images(), await volume.used()
    layers, usage = await asyncio.gather(volume.layers(), volume.usage())
    return Inventory(images, references, layers, used, usage)


async def forget_images(volume: Volume, inventory: Inventory, digests: Collection[str]) -> None:
    """Takes images away: what leads to them first, then they themselves. Their layers stay, as needed until now.

    Raises VolumeUnavailable.
    """
    for reference in inventory.references:
        left = {platform: d for platform, d in reference.platforms.items() if d not in digests}
        if len(left) == len(reference.platforms):
            continue
        await _rewrite(volume, replace(reference, platforms=left))
    for image in inventory.images:
        if image.digest in digests:
            # Some file systems write even that to a new place. Making room comes first.
            with suppress(VolumeFull):
                await volume.mark_needed([layer.file_id for layer in image.layers])
            await volume.remove_image(image.digest)


async def _rewrite(volume: Volume, reference: Reference) -> None:
    if reference.platforms:
        with suppress(VolumeFull):
            await volume.write_reference(reference)
            return
    await volume.remove_reference(reference.reference)
