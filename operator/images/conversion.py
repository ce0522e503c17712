"""The part of a layer's conversion that takes time: it runs in a thread of its own. `convert.py` is the way in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from kip.images import format as layout
from kip.images import layerfile, tar, tarheader, tarwriter
from kip.images.decompress import decompressed
from kip.images.errors import LayerRefused, WrongContent, translated
from kip.images.format import Layer, Trailer
from kip.images.hashed import Hashed, check
from kip.images.listing import Listing
from kip.images.mksquashfs import Limits, Mksquashfs
from kip.images.pipe import Broken, Pipe
from kip.images.tree import Attributes, Directory, Inode, Tree
from kip.images.volume import Volume

_OPAQUE = {b"trusted.overlay.opaque": b"y"}
_WHITEOUT = Attributes(mode=0)
# Hides a file that nobody has. Without anything of root's in it, a squashfs could not say that its top is root's.
_OF_ROOT = b".kip"


class Conversion:
    """`stream`, again if it is `stale` then, `finish`, `close`. `kill` may be called from any thread, at any time."""

    def __init__(self, volume: Volume, layer: Layer, limits: Limits) -> None:
        self.layer = layer
        self._volume, self._limits = volume, limits
        self._tree = Tree(limits.names_bytes)
        self._final: dict[int, tuple[Inode, list[bytes]]] | None = None
        self._tar_bytes = 0
        self._attempt: _Attempt | None = None
        self._killed = False

    @property
    def stale(self) -> bool:
        """Whether the blob is needed once more: what was written at first is not what is left in the end."""
        return self._tree.stale

    def stream(self, pipe: Pipe) -> None:
        """Takes the blob in, and gives mksquashfs what can be written already. Raises what `convert_layer` does."""
        try:
            with self._translated():
                if self._tree.stale:
                    self._final, self._tree.stale = self._tree.final(), False
                self._begin()
                self._take(pipe)
        finally:
            pipe.close()

    def implied(self) -> tuple[bytes, ...]:
        """Directories that the layer does not describe."""
        return self._tree.implied()

    def finish(self, attributes: Mapping[bytes, Attributes], chain_id: str) -> Trailer:
        """Writes the directories, completes the file and gives it its name. `attributes` are for directories without any;
        `chain_id` is set if there were such."""
        attempt = self._running()
        with self._translated():
            for path, node in self._tree.walk():
                if isinstance(node, Directory) and node.attributes is None:
                    node.attributes = attributes.get(path) or Attributes()
            with attempt.telling():
                for piece in _tail(self._tree):
                    attempt.program.write(piece)
            attempt.program.end()
            listing = Listing.of(self._tree)
            trailer = layerfile.complete(
                attempt.output, self.layer.diff_id, self._tar_bytes, listing, chain_id
            )
            return self._publish(attempt.output, trailer)

    def kill(self) -> None:
        """Ends mksquashfs, and so whatever waits for it."""
        self._killed = True
        if attempt := self._attempt:
            attempt.program.kill()

    def close(self) -> None:
        """Removes what did not get its name."""
        if attempt := self._attempt:
            self._attempt = None
            with self._translated():
                attempt.stack.close()

    def _translated(self) -> AbstractContextManager[None]:
        return translated(f"cannot write {self.layer.diff_id} to {self._volume.root}")

    def _begin(self) -> None:
        self.close()
        with ExitStack() as stack:
            output = stack.enter_context(self._volume.temporary(layout.layer_path(self.layer.diff_id)))
            program = Mksquashfs(output, self._limits)
            stack.callback(program.close)
            self._attempt = _Attempt(output, program, stack.pop_all())
        if self._killed:
            program.kill()

    def _running(self) -> _Attempt:
        if self._attempt is None:
            raise RuntimeError("nothing has been streamed")
        return self._attempt

    def _take(self, pipe: Pipe) -> None:
        blob = Hashed(pipe)
        try:
            content = self._convert(blob)
        except (LayerRefused, WrongContent):
            # If the blob is not what it should be, that is the reason.
            blob.drain()
            check("the blob", blob.digest, self.layer.digest)
            raise
        check("the blob", blob.digest, self.layer.digest)
        check("the layer's tar", content.digest, self.layer.diff_id)
        self._tar_bytes = content.bytes

    def _convert(self, blob: Hashed) -> Hashed:
        content = Hashed(decompressed(blob))
        stream = tar.Stream(content)
        attempt, reader = self._running(), tar.Reader(stream)
        with attempt.telling():
            if self._final is None:
                self._write_at_once(attempt, reader)
            else:
                _write_final(attempt, reader, self._final)
        stream.drain()
        return content

    def _write_at_once(self, attempt: _Attempt, reader: tar.Reader) -> None:
        for index, entry in enumerate(reader):
            if self._killed:
                raise Broken  # what a download has left may be the names of a million files
            added = self._tree.apply(index, entry)
            if self._tree.stale:
                attempt.program.kill()  # the rest is read only to know what is in it
            elif isinstance(added, Inode):
                attempt.write(reader, entry, added, added.path)
            elif added:
                path, inode = added
                attempt.write_link(path, inode, inode.path)

    def _publish(self, output: Path, trailer: Trailer) -> Trailer:
        volume, file_id = self._volume, trailer.file_id
        if volume.publish(output, layout.layer_path(file_id), lambda: volume.trailer(file_id) is not None):
            return trailer
        return volume.trailer(file_id) or trailer


@dataclass(frozen=True)
class _Attempt:
    """A run of mksquashfs and its file."""

    output: Path
    program: Mksquashfs
    stack: ExitStack

    def write(self, reader: tar.Reader, entry: tarheader.Entry, inode: Inode, path: bytes) -> None:
        """Writes the entry under that path and with the inode's attributes."""
        size = entry.size if entry.kind == tarheader.FILE else 0
        link, device = inode.link or b"", (entry.major, entry.minor)
        self.program.write(
            tarwriter.header(path, entry.kind, inode.attributes, size=size, link=link, device=device)
        )
        if size:
            reader.copy(entry, self.program.write)
            self.program.write(tarwriter.padding(size))

    def write_link(self, path: bytes, inode: Inode, target: bytes) -> None:
        """Writes a further name of what was written as `target`."""
        self.program.write(
            tarwriter.header(path, tarheader.LINK, replace(inode.attributes, xattrs={}), link=target)
        )

    @contextmanager
    def telling(self) -> Iterator[None]:
        """When mksquashfs ends early, only it can say why."""
        try:
            yield
        except BrokenPipeError:
            self.program.end()
            raise


def _write_final(
    attempt: _Attempt, reader: tar.Reader, final: Mapping[int, tuple[Inode, list[bytes]]]
) -> None:
    for index, entry in enumerate(reader):
        if index in final:
            inode, (first, *others) = final[index]
            attempt.write(reader, entry, inode, first)
            for path in others:
                attempt.write_link(path, inode, first)


def _tail(tree: Tree) -> Iterator[bytes]:
    """The end of the tar for mksquashfs: what is known only now."""
    has_roots = False
    for path, node in tree.walk():
        if isinstance(node, Inode):
            owner = node.attributes
        elif isinstance(node, Directory):
            owner = node.attributes or Attributes()
            if node.opaque:
                owner = replace(owner, xattrs={**owner.xattrs, **_OPAQUE})
            yield tarwriter.header(path, tarheader.DIRECTORY, owner)
        else:
            owner = _WHITEOUT
            yield tarwriter.header(path, tarheader.CHARACTER, owner)
        has_roots = has_roots or 0 in (owner.uid, owner.gid)
    if not has_roots:
        name = _OF_ROOT
        while name in tree.root.children:
            name += b"_"
        yield tarwriter.header(name, tarheader.CHARACTER, _WHITEOUT)
    yield tarwriter.END
