"""Puts an image on the volume: asks a registry for it, converts the layers that are missing, writes down what it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kip.images import format as layout
from kip.images import layerfile, manifests
from kip.images.convert import convert_layer, prove_layer
from kip.images.errors import CachingError, WrongContent, translated
from kip.images.format import FormatError, Image, Layer, Trailer
from kip.images.listing import Listing, inherited
from kip.images.mksquashfs import Limits
from kip.images.source import Source
from kip.images.tree import Attributes
from kip.images.volume import Volume
from kip.model.clock import Clock
from kip.oci import manifest as oci
from kip.oci.errors import NotAnImage
from kip.oci.manifest import Descriptor, Manifest
from kip.oci.reference import Reference, Repository

# Bytes; what containerd reads into memory at most (core/images, readers of configurations).
_LARGEST_CONFIG = 8 << 20
_LIMITS = Limits()


@dataclass(frozen=True)
class LayerProgress:
    """How far a layer is that had to be downloaded."""

    layer: Layer
    come_bytes: int
    """Of `layer.blob_bytes`; the last is told when the layer's file is complete. A layer that is read twice begins anew."""


Progress = Callable[[LayerProgress], None]


@dataclass(frozen=True)
class Cached:
    """What was done for a reference."""

    reference: layout.Reference
    images: tuple[Image, ...]
    converted: tuple[Layer, ...]
    """Layers that were not there before."""
    proved: tuple[Layer, ...] = ()
    """Layers that were there from another repository, and that this one has shown to have."""

    @property
    def downloaded_bytes(self) -> int:
        """Without manifests and configurations."""
        return sum(layer.blob_bytes for layer in (*self.converted, *self.proved))


@dataclass
class _Work:
    """One call of `add`: by whose rights, who watches, and what was done."""

    repository: Repository
    source: Source
    progress: Progress
    converted: list[Layer] = field(default_factory=list)
    proved: list[Layer] = field(default_factory=list)
    had: frozenset[tuple[str, str]] | None = None
    """Digest and diffID of layers of the repository's images of before; None while that has not been looked up."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def blob(self, layer: Layer) -> AsyncIterator[bytes]:
        return self.source.blob(self.repository, Descriptor("", layer.digest, layer.blob_bytes))

    def tell(self, layer: Layer, come: int) -> None:
        # The whole is told by who knows that it is complete.
        if come < layer.blob_bytes:
            self.progress(LayerProgress(layer, come))


@dataclass(frozen=True)
class _Place:
    """Where a layer is in its image."""

    chain_id: str
    below: tuple[asyncio.Task[Layer], ...]
    """What becomes of the layers below it."""
    may_begin: asyncio.Event
    """The one below has begun."""
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """It has a slot, or needs none."""


class ImageCache:
    """Adds images to a volume, any number at once: a layer that two of them need is converted once.

    It is downloaded once for each repository, because no image gets a layer that its repository cannot give (proof.py).
    """

    def __init__(
        self,
        volume: Volume,
        *,
        clock: Clock,
        creator: str,
        slots: asyncio.Semaphore,
        limits: Limits = _LIMITS,
    ) -> None:
        """`slots` is how many conversions may run at once, `limits` what each may use, `creator` who is written down."""
        self._volume, self._clock, self._creator = volume, clock, creator
        self._slots, self._limits = slots, limits
        self._busy: dict[str, asyncio.Event] = {}

    async def add(
        self,
        reference: Reference,
        source: Source,
        platforms: Sequence[str],
        progress: Progress = lambda _: None,
    ) -> Cached:
        """Caches what `reference` leads to now, for each of the platforms that it has, and writes down that it did. What is
        there already is not made again. `progress` is called in the event loop.

        Raises CachingError by what is to be done about it (LayerRefused, WrongContent, VolumeFull, …), and what the source
        raises; NotAnImage for what no cell could run. Layers that were complete by then stay, for the next try.
        """
        work = _Work(reference.repository, source, progress)
        top = await source.manifest(reference)
        if top.is_index:
            found = oci.platforms(top)
            chosen = [reference.at(each.digest) for each in manifests.wanted(found, platforms)]
            images = [await self._describe(work, await source.manifest(each)) for each in chosen]
            offered = tuple(sorted(found))
        else:
            images = [await self._describe(work, top)]
            offered = (images[0].platform,)
            manifests.wanted({images[0].platform: oci.config_of(top)}, platforms)
        images = [await self._add_image(image, work) for image in images]
        written = await self._write_reference(str(reference), top.digest, images, offered)
        return Cached(written, tuple(images), tuple(work.converted), tuple(work.proved))

    async def _describe(self, work: _Work, manifest: Manifest) -> Image:
        config = await self._config(work, manifest)
        platform, layers = manifests.describe(manifest, config)
        try:
            return Image(
                digest=manifest.digest,
                manifest=manifest.content.decode(),
                media_type=manifest.media_type,
                config=config.decode(),
                layers=layers,
                platform=platform,
                created=self._clock.now(),
                creator=self._creator,
            )
        except UnicodeDecodeError as error:
            raise NotAnImage(f"{manifest.digest}: not all of it is UTF-8 ({error})") from error

    async def _config(self, work: _Work, manifest: Manifest) -> bytes:
        blob = oci.config_of(manifest)
        if blob.size > _LARGEST_CONFIG:
            raise NotAnImage(f"{manifest.digest}: a configuration of {blob.size} bytes")
        content = b"".join([piece async for piece in work.source.blob(work.repository, blob)])
        if oci.digest_of(content) != blob.digest:
            raise WrongContent(f"the configuration is {oci.digest_of(content)}; expected {blob.digest}")
        return content

    async def _add_image(self, image: Image, work: _Work) -> Image:
        """The image with its layers as they are on the volume."""
        chain = image.chain
        tasks: list[asyncio.Task[Layer]] = []
        begun = asyncio.Event()
        begun.set()
        for depth, layer in enumerate(image.layers):
            place = _Place(chain[depth], tuple(tasks), begun)
            begun = place.begun
            adding = self._add_layer(layer, place, work)
            tasks.append(asyncio.create_task(adding, name=f"convert {layer.diff_id}"))
        try:
            layers = await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        image = replace(image, layers=tuple(layers))
        if (there := await self._volume.image(image.digest)) and there.layers == image.layers:
            return there
        await self._volume.write_image(image)
        return image

    async def _add_layer(self, layer: Layer, place: _Place, work: _Work) -> Layer:
        # From the bottom up: who waits for layers below with a slot in hand then waits for such as have one too, and the
        # lowest of these waits for nobody.
        await place.may_begin.wait()
        chain_id = place.chain_id
        while True:
            if found := await self._existing(layer, chain_id):
                await self._prove(layer, found, place, work)
                return replace(layer, chain_id=found.chain_id)
            busy = self._busy.get(chain_id)
            if busy is None:
                break
            await busy.wait()
        self._busy[chain_id] = done = asyncio.Event()
        try:
            async with self._slots:
                place.begun.set()
                trailer = await self._convert(layer, place, work)
        finally:
            del self._busy[chain_id]
            done.set()
        work.converted.append(layer)
        work.progress(LayerProgress(layer, layer.blob_bytes))
        return replace(layer, chain_id=trailer.chain_id)

    async def _prove(self, layer: Layer, found: Trailer, place: _Place, work: _Work) -> None:
        """The repository has the layer that is there, or has it shown before."""
        async with work.turn:  # layers may come twice in an image
            if work.had is None:
                work.had = await self._had(work.repository)
            delivered = {(each.digest, each.diff_id) for each in (*work.converted, *work.proved)}
            if (layer.digest, layer.diff_id) in work.had | delivered:
                place.begun.set()
                return
            async with self._slots:
                place.begun.set()
                await prove_layer(
                    layer,
                    found.tar_bytes,
                    lambda: work.blob(layer),
                    progress=lambda come: work.tell(layer, come),
                )
            work.proved.append(layer)
        work.progress(LayerProgress(layer, layer.blob_bytes))

    async def _had(self, repository: Repository) -> frozenset[tuple[str, str]]:
        """Layers of images that were cached from that repository."""
        names = (f"{repository}:", f"{repository}@")
        digests = {
            digest
            for each in await self._volume.references()
            if each.reference.startswith(names)
            for digest in each.platforms.values()
        }
        images = [await self._volume.image(digest) for digest in sorted(digests)]
        return frozenset((layer.digest, layer.diff_id) for each in images if each for layer in each.layers)

    async def _existing(self, layer: Layer, chain_id: str) -> Trailer | None:
        """The file that serves the layer at that place. One that depends on what is below serves there alone."""
        for file_id in dict.fromkeys((layer.diff_id, chain_id)):
            found = await self._volume.renew_layer(file_id)
            if found and found.serves(layer.diff_id, chain_id):
                return found
        return None

    async def _convert(self, layer: Layer, place: _Place, work: _Work) -> Trailer:
        async def attributes(paths: tuple[bytes, ...]) -> Mapping[bytes, Attributes]:
            # With the slot: what has been read of the layer is in memory.
            layers = await asyncio.gather(*map(asyncio.shield, place.below))
            return await asyncio.to_thread(self._inherited, paths, layers)

        return await convert_layer(
            self._volume,
            layer,
            lambda: work.blob(layer),
            chain_id=place.chain_id,
            below=attributes if place.below else None,
            limits=self._limits,
            progress=lambda come: work.tell(layer, come),
        )

    def _inherited(self, paths: Sequence[bytes], below: Sequence[Layer]) -> Mapping[bytes, Attributes]:
        with translated("cannot read the layers below"):
            return inherited(paths, [self._listing(layer) for layer in reversed(below)])

    def _listing(self, layer: Layer) -> Listing:
        trailer = self._volume.trailer(layer.file_id)
        try:
            if trailer is None:
                raise FormatError("it is gone")
            return layerfile.read_listing(self._volume.root / layout.layer_path(layer.file_id), trailer)
        except FormatError as error:
            raise CachingError(
                f"the layer {layer.file_id} cannot be built upon: {error}; try again"
            ) from error

    async def _write_reference(
        self, reference: str, digest: str, images: Sequence[Image], offered: Sequence[str]
    ) -> layout.Reference:
        platforms = {image.platform: image.digest for image in images}
        before = await self._volume.reference(reference)
        if before and before.digest == digest:
            platforms = {**before.platforms, **platforms}
        written = layout.Reference(reference, digest, platforms, self._clock.now(), tuple(offered))
        await self._volume.write_reference(written)
        return written
