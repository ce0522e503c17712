"""Checks a whole volume, byte for byte, and says what to do about what it finds.

What it cannot check: that a layer's squashfs has the files of the tar with that diffID. A squashfs does not give the tar
back as it was; whoever may write to the volume is trusted with that (docs/designs/0006-image-cache.md).
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import PurePosixPath
from typing import TypeVar

from kip.images import format as layout
from kip.images import squashfs, verity
from kip.images.errors import translated
from kip.images.format import BLOCK, FormatError, Image, Reference, Trailer
from kip.images.volume import ABANDONED, GONE, Volume, is_temporary, layer_at, needed_layers
from kip.model.clock import Clock

_PIECE = 1 << 20  # bytes read at once
_NOT_OURS = {"lost+found", ".snapshot"}  # of file systems themselves
_Small = TypeVar("_Small", Reference, Image)
FRESH = timedelta(hours=1)
"""So young a layer is not called unneeded: the image that needs it may be about to be written."""


class Problem(StrEnum):
    """What is wrong with a file."""

    DAMAGED = "damaged"
    """Its content is not what it should be."""
    INCOMPLETE = "incomplete"
    """It is right itself, but something that it needs is not there, or damaged."""
    UNNEEDED = "unneeded"
    """Nothing needs it."""
    ABANDONED = "abandoned"
    """It was left by somebody who was interrupted."""
    STRAY = "stray"
    """It does not belong on the volume."""


_ADVICE = {
    Problem.DAMAGED: "delete it; it is made anew when it is next asked for",
    Problem.INCOMPLETE: "delete it; add the image again",
    Problem.UNNEEDED: "delete it, or leave it to `kip image-cache prune`",
    Problem.ABANDONED: "delete it",
    Problem.STRAY: "look what it is, and move it away; Kip does not touch it",
}


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with the volume."""

    path: PurePosixPath
    problem: Problem
    reason: str

    @property
    def advice(self) -> str:
        """What to do about it."""
        return _ADVICE[self.problem]

    @property
    def repairable(self) -> bool:
        """Whether deleting it is all that is needed."""
        return self.problem is not Problem.STRAY


@dataclass(frozen=True)
class Checked:
    """A file that has been looked at: for whoever shows how far it is."""

    path: PurePosixPath
    file_bytes: int


@dataclass(frozen=True)
class Report:
    """What a volume has, and what is wrong with it."""

    layers: int
    images: int
    references: int
    read_bytes: int
    findings: tuple[Finding, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong: what is merely not needed harms nobody."""
        return all(each.problem is Problem.UNNEEDED for each in self.findings)


async def verify(
    volume: Volume,
    clock: Clock,
    *,
    content: bool = True,
    progress: Callable[[Checked], None] = lambda _: None,
) -> Report:
    """Reads everything, or without `content` all but the layers' inside: sizes, trailers and superblocks.

    May run while others write. `progress` is called in the event loop after each file. Raises VolumeUnavailable.
    """
    loop = asyncio.get_running_loop()

    def tell(done: Checked) -> None:
        loop.call_soon_threadsafe(progress, done)

    check = _Check(volume, clock, content, tell)
    work = asyncio.ensure_future(asyncio.to_thread(check.run))
    try:
        return await asyncio.shield(work)
    finally:
        check.stop = True
        with suppress(_Stopped):
            await work


async def repair(volume: Volume, report: Report) -> tuple[Finding, ...]:
    """Deletes what is broken or abandoned, but not what is merely unneeded, and says what that was.

    References first, then images, then layers: at no moment something is named that is not there. Raises VolumeUnavailable.
    """
    order = (layout.INDEX, layout.IMAGES, layout.LAYERS)
    wanted = [each for each in report.findings if each.repairable and each.problem is not Problem.UNNEEDED]
    wanted.sort(key=lambda each: order.index(PurePosixPath(each.path.parts[0])))

    def delete() -> tuple[Finding, ...]:
        with translated(f"cannot repair {volume.root}"):
            return tuple(each for each in wanted if volume.unlink(each.path))

    return await asyncio.to_thread(delete)


class _Stopped(Exception):
    """Nobody waits for it any more."""


class _Check:
    def __init__(
        self, volume: Volume, clock: Clock, content: bool, progress: Callable[[Checked], None]
    ) -> None:
        self.stop = False
        self._volume, self._content, self._progress = volume, content, progress
        self._now = clock.now()
        self._read_bytes = 0

    def run(self) -> Report:
        """From what needs others to what is needed: what comes on while this runs, comes in the opposite order."""
        with translated(f"cannot verify {self._volume.root}"):
            self._volume.root.stat()
            findings = [*self._strays()]
            references = [*self._small(layout.INDEX, self._reference, findings)]
            images = [*self._small(layout.IMAGES, self._image, findings)]
            layers = [*self._layers(findings)]
            findings += self._unmet(references, images, layers)
            findings += self._unneeded(images, layers)
        return Report(
            len(layers),
            len(images),
            len(references),
            self._read_bytes,
            tuple(sorted(findings, key=lambda each: each.path)),
        )

    def _small(
        self, top: PurePosixPath, read: Callable[[PurePosixPath, bytes], _Small], findings: list[Finding]
    ) -> Iterator[_Small]:
        for path, status in [*self._volume.files(top)]:
            if is_temporary(path):
                findings += self._abandoned(path, status.st_mtime)
                continue
            found = self._volume.read(path)
            if found is None:
                continue
            self._done(path, found[1])
            try:
                yield read(path, found[0])
            except FormatError as error:
                findings.append(Finding(path, Problem.DAMAGED, str(error)))

    def _reference(self, path: PurePosixPath, content: bytes) -> Reference:
        reference = Reference.parse(content)
        if layout.reference_path(reference.reference) != path:
            raise FormatError(f"the file about {reference.reference} has another's name")
        return reference

    def _image(self, path: PurePosixPath, content: bytes) -> Image:
        return Image.parse(content, digest=layout.check_digest(path.name.removesuffix(".json")))

    def _layers(self, findings: list[Finding]) -> Iterator[tuple[str, datetime]]:
        for path, status in [*self._volume.files(layout.LAYERS)]:
            file_id = layer_at(path)
            if is_temporary(path):
                findings += self._abandoned(path, status.st_mtime)
            elif file_id is None:
                findings.append(Finding(path, Problem.STRAY, "no layer has such a name"))
            else:
                try:
                    self._check_layer(path, file_id)
                    yield file_id, datetime.fromtimestamp(status.st_mtime, UTC)
                except FormatError as error:
                    findings.append(Finding(path, Problem.DAMAGED, str(error)))
                except OSError as error:
                    if (
                        error.errno in GONE
                    ):  # in the middle of reading, too, if another client of the server removes it
                        continue
                    if error.errno != errno.EIO:
                        raise
                    findings.append(Finding(path, Problem.DAMAGED, str(error)))
                self._done(path, status.st_size)

    def _check_layer(self, path: PurePosixPath, file_id: str) -> None:
        """Raises FormatError for a file that is not as its trailer says, and OSError."""
        with (self._volume.root / path).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - BLOCK))
            trailer = Trailer.parse(file.read(BLOCK), file_bytes=size, file_id=file_id)
            file.seek(0)
            superblock = squashfs.Superblock.parse(file.read(BLOCK))
            if squashfs.padded(superblock.bytes_used) != trailer.data_bytes:
                raise FormatError(f"a squashfs of {superblock.bytes_used} bytes in {trailer.data_bytes}")
            if self._content:
                file.seek(0)
                self._check_content(lambda count: file.read(min(_PIECE, count)), trailer)

    def _check_content(self, read: Callable[[int], bytes], trailer: Trailer) -> None:
        tree, whole = verity.Tree(bytes.fromhex(trailer.salt)), hashlib.sha256()
        for piece in self._pieces(read, trailer.data_bytes):
            whole.update(piece)
            tree.update(piece)
        hashes, root_hash = tree.finish()
        found = b"".join(self._pieces(read, trailer.tree_bytes))
        whole.update(found)
        for piece in self._pieces(read, trailer.listing_bytes):
            whole.update(piece)
        if whole.hexdigest() != trailer.sha256:
            raise FormatError(f"its SHA-256 is {whole.hexdigest()}; its trailer says {trailer.sha256}")
        if (found, root_hash) != (hashes, trailer.root_hash):
            raise FormatError(f"its hash tree is not that of its content, whose root is {root_hash}")

    def _pieces(self, read: Callable[[int], bytes], count: int) -> Iterator[bytes]:
        while count:
            if self.stop:
                raise _Stopped
            piece = read(count)
            if not piece:
                raise FormatError("it became shorter while it was read")
            self._read_bytes += len(piece)
            count -= len(piece)
            yield piece

    def _strays(self) -> Iterator[Finding]:
        for entry in sorted(self._volume.root.iterdir()):
            path = PurePosixPath(entry.name)
            if path not in (layout.LAYERS, layout.IMAGES, layout.INDEX) and entry.name not in _NOT_OURS:
                yield Finding(path, Problem.STRAY, "Kip has made no such thing")

    def _abandoned(self, path: PurePosixPath, modified: float) -> list[Finding]:
        age = self._now.timestamp() - modified
        if age < ABANDONED.total_seconds():
            return []
        return [Finding(path, Problem.ABANDONED, f"last written to {age / 86_400:.0f} days ago")]

    def _unmet(
        self, references: Sequence[Reference], images: Sequence[Image], layers: Sequence[tuple[str, datetime]]
    ) -> Iterator[Finding]:
        """An image is right if all of its layers are, a reference if all of its images are."""
        complete, whole = {file_id for file_id, _ in layers}, set[str]()
        for image in images:
            path = layout.image_path(image.digest)
            missing = [layer.file_id for layer in image.layers if layer.file_id not in complete]
            if not missing:
                whole.add(image.digest)
            elif self._is_still(path, image):
                reason = f"of {len(image.layers)} layers {len(missing)} are missing or damaged: {missing[0]}"
                yield Finding(path, Problem.INCOMPLETE, reason)
        for reference in references:
            path = layout.reference_path(reference.reference)
            missing = [digest for digest in reference.platforms.values() if digest not in whole]
            if missing and self._is_still(path, reference):
                reason = f"{reference.reference}: the image {missing[0]} is missing or damaged"
                yield Finding(path, Problem.INCOMPLETE, reason)

    def _is_still(self, path: PurePosixPath, expected: Image | Reference) -> bool:
        """Whether nobody has replaced or removed it meanwhile, with what it needed."""
        found = self._volume.read(path)
        if found is None:
            return False
        with suppress(FormatError):
            # Not the bytes: another version may have written the same in another way.
            return expected == (
                Image.parse(found[0], digest=expected.digest)
                if isinstance(expected, Image)
                else Reference.parse(found[0])
            )
        return False

    def _unneeded(self, images: Sequence[Image], layers: Sequence[tuple[str, datetime]]) -> Iterator[Finding]:
        needed = needed_layers(images)
        for file_id, modified in layers:
            if file_id not in needed and self._now - modified > FRESH:
                yield Finding(layout.layer_path(file_id), Problem.UNNEEDED, "no image needs it")

    def _done(self, path: PurePosixPath, file_bytes: int) -> None:
        if self.stop:
            raise _Stopped
        self._progress(Checked(path, file_bytes))
