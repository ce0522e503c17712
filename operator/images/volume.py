"""The volume as an object: what is on it, and how it comes there and goes.

Everything here may wait for a file server, so it runs in threads. Nothing is remembered between calls: several programs
write to a volume, and what one of them knows may be old.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import IO, TypeVar

from kip.images import format as layout
from kip.images.errors import translated
from kip.images.format import BLOCK, FormatError, Image, Reference, Trailer
from kip.model.clock import Clock

ABANDONED = timedelta(days=1)
"""Age of a temporary file that nobody can still be writing: a conversion writes all the time."""

# A file server's cache can name a file that another client has just removed or replaced: the second look is answered anew.
GONE = {errno.ENOENT, errno.ESTALE, errno.ENOTDIR}
_LOOKS = 3
# What an NFS client keeps of a file that was removed while a process on it had it open; it goes with that process.
_REMOVED_OPEN = ".nfs"
# `link` is not everywhere: such file systems get a rename, where of two writers at once the later one counts.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}


_Result = TypeVar("_Result")


@dataclass(frozen=True)
class LayerFile:
    """A file among the layers that has a layer's name; whether it is complete says `Volume.layer`."""

    file_id: str
    file_bytes: int
    modified: datetime


@dataclass(frozen=True)
class Usage:
    """What the cache takes, and what there is, in bytes."""

    layers: int
    layers_bytes: int
    images: int
    references: int
    temporary_bytes: int
    free_bytes: int
    """What is left for us on the file system. EFS says 8 EiB: there is no end but the bill."""


class Volume:
    """A directory with an image cache in it. Methods raise VolumeFull or VolumeUnavailable where not said otherwise."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self.root = root
        self._clock = clock

    async def layer(self, file_id: str) -> Trailer | None:
        """The layer's trailer, if its file is there and complete; `file_id` is Layer.file_id."""
        return await self._in_thread("look for a layer", lambda: self.trailer(file_id))

    async def has_layer(self, file_id: str) -> bool:
        """Whether the layer's file is there and complete. Its content is not read: that is what `verify` does."""
        return await self.layer(file_id) is not None

    async def renew_layer(self, file_id: str) -> Trailer | None:
        """As `layer`, and makes the file a new one (LayerFile.modified), so that nobody takes it for one that no image needs
        before the image is there that is about to need it."""
        return await self._in_thread("renew a layer", lambda: self._renew(file_id))

    async def image(self, digest: str) -> Image | None:
        """The image with that manifest, if it is there; None also for a file that is not right, which `verify` names."""
        return await self._in_thread("look for an image", lambda: self._image(digest))

    async def reference(self, reference: str) -> Reference | None:
        """Where that reference led; None also for a file that is not right."""
        return await self._in_thread("look for a reference", lambda: self._reference(reference))

    async def images(self) -> tuple[Image, ...]:
        """All images, by digest; files that are not right are left out."""
        return await self._in_thread("list images", lambda: tuple(self._images()))

    async def references(self) -> tuple[Reference, ...]:
        """All references, by name; files that are not right are left out."""
        found = await self._in_thread("list references", lambda: tuple(self._references()))
        return tuple(sorted(found, key=lambda each: each.reference))

    async def layers(self) -> tuple[LayerFile, ...]:
        """All files that have a layer's name."""
        return await self._in_thread("list layers", lambda: tuple(self._layers()))

    async def usage(self) -> Usage:
        """How much is there; goes over all names, but reads no file."""
        return await self._in_thread("measure the volume", self._usage)

    async def write_image(self, image: Image) -> None:
        """Writes the file about an image, whose layers must all be there. One that exists is replaced."""
        path = layout.image_path(image.digest)
        await self._in_thread("write an image", lambda: self._replace(path, image.to_bytes()))

    async def write_reference(self, reference: Reference) -> None:
        """Writes where a reference leads; the images must be there. One that exists is replaced."""
        path = layout.reference_path(reference.reference)
        await self._in_thread("write a reference", lambda: self._replace(path, reference.to_bytes()))

    async def remove_reference(self, reference: str) -> bool:
        """Whether it was there. To be removed before its images are."""
        path = layout.reference_path(reference)
        return await self._in_thread("remove a reference", lambda: self.unlink(path))

    async def remove_image(self, digest: str) -> bool:
        """Whether it was there. To be removed after the references to it, and before its layers."""
        path = layout.image_path(digest)
        return await self._in_thread("remove an image", lambda: self.unlink(path))

    async def remove_layer(self, file_id: str) -> bool:
        """Whether it was there. On NFS this takes the layer from cells that read it: the caller knows that none does."""
        path = layout.layer_path(file_id)
        return await self._in_thread("remove a layer", lambda: self.unlink(path))

    async def sweep(self, abandoned: timedelta = ABANDONED) -> tuple[PurePosixPath, ...]:
        """Removes temporary files that were last written to so long ago, and says which."""
        return await self._in_thread("sweep the volume", lambda: tuple(self._sweep(abandoned)))

    # When something was last needed is the time of its file's last change: the volume has no other place for it that two
    # writers could share without a quarrel.

    async def used(self) -> Mapping[str, datetime]:
        """When each image was last used, as `mark_used` says, or else when it was cached."""
        return await self._in_thread("look when images were used", lambda: dict(self._used()))

    async def mark_used(self, digests: Iterable[str]) -> None:
        """These images are in use now. Those that are not there are left out."""
        await self._in_thread("mark images", lambda: self._touch(map(layout.image_path, digests)))

    async def mark_needed(self, file_ids: Iterable[str]) -> None:
        """These layers were needed until now, or will be soon. Those that are not there are left out."""
        await self._in_thread("mark layers", lambda: self._touch(map(layout.layer_path, file_ids)))

    async def _in_thread(self, what: str, work: Callable[[], _Result]) -> _Result:
        def translating() -> _Result:
            with translated(f"cannot {what} on {self.root}"):
                self.root.stat()  # a volume that is not there is not an empty one
                return work()

        return await asyncio.to_thread(translating)

    # What follows blocks; the conversion and `verify`, which are in threads of their own, use it too.

    @contextmanager
    def temporary(self, path: PurePosixPath) -> Iterator[Path]:
        """A name for a new file beside where `path` will be; whatever is there at the end is removed. Raises OSError."""
        directory = self.root / path.parent
        directory.mkdir(parents=True, exist_ok=True)
        writer = f"{socket.gethostname()[:60]}-{os.getpid()}-{secrets.token_hex(4)}"
        name = directory / f"{layout.TEMPORARY}{writer}"
        try:
            yield name
        finally:
            with suppress(FileNotFoundError):
                name.unlink()

    def publish(self, temporary: Path, path: PurePosixPath, complete: Callable[[], bool]) -> bool:
        """Gives a whole, synced file its name; whether it was ours that got it. `complete` says whether a file that has the
        name already is right; else ours takes its place. Raises OSError."""
        final = self.root / path
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(temporary, final)
        except FileExistsError:
            # Also when the server has done it, and was asked again because its answer was lost.
            if not _same(temporary, final) and complete():
                return False
            temporary.replace(final)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            temporary.replace(final)
        _sync_directory(final.parent)
        return True

    def read(self, path: PurePosixPath, last: int | None = None) -> tuple[bytes, int] | None:
        """A file's content, or its `last` bytes, and its size; None if it is not there. Raises OSError."""
        for look in range(_LOOKS):
            try:
                with (self.root / path).open("rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    if last is not None:
                        file.seek(max(0, size - last))
                    return file.read(), size
            except OSError as error:
                if error.errno not in GONE:
                    raise
                if error.errno != errno.ESTALE or look == _LOOKS - 1:
                    return None
        return None

    def unlink(self, path: PurePosixPath) -> bool:
        """Removes a file; whether it was there. Raises OSError."""
        try:
            (self.root / path).unlink()
        except OSError as error:
            if error.errno not in GONE:
                raise
            return False
        return True

    def files(self, top: PurePosixPath) -> Iterator[tuple[PurePosixPath, os.stat_result]]:
        """All files below a directory, sorted; none if it is not there. Those that go meanwhile are left out. OSError: also
        for a directory that cannot be read now, since one that seems empty lets everything go that is needed."""
        try:
            with os.scandir(self.root / top) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        for entry in entries:
            path = top / entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from self.files(path)
            elif not entry.name.startswith(_REMOVED_OPEN) and (status := _status(entry)):
                yield path, status

    def trailer(self, file_id: str) -> Trailer | None:
        """As `layer`, but blocking. Raises OSError."""
        found = self.read(layout.layer_path(file_id), last=BLOCK)
        if found is None:
            return None
        with suppress(FormatError):
            return Trailer.parse(found[0], file_bytes=found[1], file_id=file_id)
        return None

    def _renew(self, file_id: str) -> Trailer | None:
        trailer = self.trailer(file_id)
        if trailer is None:
            return None
        moment = self._clock.now().timestamp()
        try:
            os.utime(self.root / layout.layer_path(file_id), (moment, moment))
        except OSError as error:
            if error.errno not in GONE:
                raise
            return None
        return trailer

    def _image(self, digest: str) -> Image | None:
        found = self.read(layout.image_path(digest))
        with suppress(FormatError):
            return Image.parse(found[0], digest=digest) if found else None
        return None

    def _reference(self, reference: str) -> Reference | None:
        found = self.read(layout.reference_path(reference))
        with suppress(FormatError):
            return Reference.parse(found[0], reference=reference) if found else None
        return None

    def _images(self) -> Iterator[Image]:
        for path, _ in self.files(layout.IMAGES):
            with suppress(FormatError):
                if image := self._image(layout.check_digest(path.name.removesuffix(".json"))):
                    yield image

    def _references(self) -> Iterator[Reference]:
        for path, _ in self.files(layout.INDEX):
            found = None if is_temporary(path) else self.read(path)
            with suppress(FormatError):
                if (
                    found
                    and layout.reference_path((reference := Reference.parse(found[0])).reference) == path
                ):
                    yield reference

    def _layers(self) -> Iterator[LayerFile]:
        for path, status in self.files(layout.LAYERS):
            if file_id := layer_at(path):
                yield LayerFile(file_id, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def _used(self) -> Iterator[tuple[str, datetime]]:
        for path, status in self.files(layout.IMAGES):
            with suppress(FormatError):
                digest = layout.check_digest(path.name.removesuffix(".json"))
                yield digest, datetime.fromtimestamp(status.st_mtime, UTC)

    def _touch(self, paths: Iterable[PurePosixPath]) -> None:
        for path in paths:
            try:
                os.utime(self.root / path)
            except OSError as error:
                if error.errno not in GONE:
                    raise

    def _usage(self) -> Usage:
        layers = tuple(self._layers())
        system = os.statvfs(self.root)
        return Usage(
            layers=len(layers),
            layers_bytes=sum(layer.file_bytes for layer in layers),
            images=sum(not is_temporary(path) for path, _ in self.files(layout.IMAGES)),
            references=sum(not is_temporary(path) for path, _ in self.files(layout.INDEX)),
            temporary_bytes=sum(status.st_size for _, status in self._temporaries()),
            free_bytes=system.f_bavail * system.f_frsize,
        )

    def _temporaries(self) -> Iterator[tuple[PurePosixPath, os.stat_result]]:
        for top in (layout.LAYERS, layout.IMAGES, layout.INDEX):
            yield from ((path, status) for path, status in self.files(top) if is_temporary(path))

    def _sweep(self, abandoned: timedelta) -> Iterator[PurePosixPath]:
        before = (self._clock.now() - abandoned).timestamp()
        for path, status in [*self._temporaries()]:
            if status.st_mtime < before and self.unlink(path):
                yield path

    def _replace(self, path: PurePosixPath, content: bytes) -> None:
        with self.temporary(path) as temporary:
            with temporary.open("xb") as file:
                file.write(content)
                sync(file)
            temporary.replace(self.root / path)
            _sync_directory((self.root / path).parent)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError as error:
        if error.errno not in GONE:
            raise
        return False  # somebody has removed it in this moment


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except OSError as error:
        if error.errno not in GONE:
            raise
        return None


def is_temporary(path: PurePosixPath) -> bool:
    """Whether it is a file in the making, or one that was left in it."""
    return path.name.startswith(layout.TEMPORARY)


def layer_at(path: PurePosixPath) -> str | None:
    """The file id of the layer whose place that is."""
    file_id = f"sha256:{path.name.removesuffix('.squashfs')}"
    with suppress(FormatError):
        if layout.layer_path(file_id) == path:
            return file_id
    return None


def needed_layers(images: Sequence[Image]) -> frozenset[str]:
    """The file ids of all layers that these images need."""
    return frozenset(layer.file_id for image in images for layer in image.layers)


def sync(file: IO[bytes]) -> None:
    """Returns when the file's content is where it survives a power cut. Raises OSError, also for what was written before."""
    file.flush()
    os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    """NFS does not need it, and some servers do not have it; ext4 does."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.EROFS):
            raise
    finally:
        os.close(descriptor)
