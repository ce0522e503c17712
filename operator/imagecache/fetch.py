"""One image for one platform: is it there, is it still the one that is meant, and if not, fetched and converted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from weakref import WeakValueDictionary

from kip.images.errors import CachingError
from kip.images.format import Reference as Entry
from kip.images.pull import ImageCache, LayerProgress
from kip.images.source import RegistrySource
from kip.images.volume import Volume
from kip.model.clock import Clock
from kip.oci.client import Registries
from kip.oci.credentials import Credentials
from kip.oci.reference import Reference


@dataclass(frozen=True)
class Done:
    """An image is on the volume."""

    digest: str
    """Of the image's manifest."""
    fetched_bytes: int = 0
    """Of blobs that were downloaded for it; 0 if no layer was missing."""
    seconds: float = 0.0


Tell = Callable[[LayerProgress], None]


@dataclass
class Sum:
    """How far all layers together are that were begun, in bytes of their blobs."""

    _layers: dict[str, LayerProgress] = field(default_factory=dict)

    def add(self, progress: LayerProgress) -> None:
        """The news of one layer."""
        self._layers[progress.layer.digest] = progress

    @property
    def done(self) -> int:
        return sum(each.come_bytes for each in self._layers.values())

    @property
    def total(self) -> int:
        return sum(each.layer.blob_bytes for each in self._layers.values())


class Fetcher:
    """Makes sure that images are on a volume."""

    def __init__(
        self,
        volume: Volume,
        cache: ImageCache,
        registries: Registries,
        clock: Clock,
        *,
        check_after: timedelta,
    ) -> None:
        """`check_after`: so long a registry's answer for a tag counts."""
        self._volume = volume
        self._cache = cache
        self._registries = registries
        self._clock = clock
        self._check_after = check_after
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def __call__(
        self, reference: Reference, platform: str, credentials: Credentials, tell: Tell = lambda _: None
    ) -> Done:
        """The image that the reference means now is there, whole, when this returns.

        Raises CachingError and RegistryError, by what is to be done about it.
        """
        # Two platforms of one reference are written into the same file.
        async with self._turns.setdefault(str(reference), asyncio.Lock()):
            return await self._see_to(reference, platform, credentials, tell)

    async def _see_to(
        self, reference: Reference, platform: str, credentials: Credentials, tell: Tell
    ) -> Done:
        began = self._clock.monotonic()
        entry = await self._volume.reference(str(reference))
        there = await self._whole(entry, platform)
        if entry and there:
            if reference.digest or self._clock.now() - entry.resolved < self._check_after:
                return Done(there)
            if await self._registries.resolve(reference, credentials) == entry.digest:
                await self._volume.write_reference(replace(entry, resolved=self._clock.now()))
                return Done(there)
        source = RegistrySource(self._registries, credentials)
        cached = await self._cache.add(reference, source, [platform], tell)
        there = await self._whole(cached.reference, platform)
        if not there:
            # Somebody evicted a layer in the moment before it was needed again.
            raise CachingError(f"{reference}: part of it went while it was made; it is made again")
        return Done(there, cached.downloaded_bytes, self._clock.monotonic() - began)

    async def _whole(self, entry: Entry | None, platform: str) -> str:
        """The digest of the image of that platform if all of it is there, else nothing."""
        digest = entry.platforms.get(platform, "") if entry else ""
        image = await self._volume.image(digest) if digest else None
        if image is None:
            return ""
        # One after the other: they are few, and a file server has others to answer.
        for layer in image.layers:
            if not await self._volume.has_layer(layer.file_id):
                return ""
        return digest
