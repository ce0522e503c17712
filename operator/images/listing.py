"""What a layer's file says about the layer's directories, for layers above it.

Some tools make layers with files in directories that the layer does not describe. containerd then gives those the attributes
that they have in the layers below (`mkparent` in its pkg/archive/tar.go). Reading them back from a squashfs would take
root's rights or more programs, so they are written down: directories, symbolic links, whiteouts, in compressed JSON.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kip.images.format import FormatError
from kip.images.tree import Attributes, Directory, Inode, Tree, resolve

_TEXT = "latin-1"  # a character for each byte: names and values are any bytes


@dataclass(frozen=True)
class Listing:
    """The directories of one layer."""

    directories: Mapping[bytes, Attributes]
    links: Mapping[bytes, bytes]
    """Symbolic links and their targets."""
    whiteouts: frozenset[bytes]

    @classmethod
    def of(cls, tree: Tree) -> Listing:
        """The directories of a layer in which each has attributes."""
        directories: dict[bytes, Attributes] = {}
        links: dict[bytes, bytes] = {}
        whiteouts: list[bytes] = []
        for path, node in tree.walk():
            if isinstance(node, Directory):
                directories[path] = node.attributes or Attributes()
            elif not isinstance(node, Inode):
                whiteouts.append(path)
            elif node.link is not None:
                links[path] = node.link
        return cls(directories, links, frozenset(whiteouts))

    def to_bytes(self) -> bytes:
        """The same layer gives the same bytes."""
        return zlib.compress("\n".join(self._lines()).encode())

    def _lines(self) -> Iterator[str]:
        for path, found in sorted(self.directories.items()):
            xattrs = {key.decode(_TEXT): value.decode(_TEXT) for key, value in sorted(found.xattrs.items())}
            yield json.dumps(["d", path.decode(_TEXT), found.mode, found.uid, found.gid, found.mtime, xattrs])
        for path, target in sorted(self.links.items()):
            yield json.dumps(["l", path.decode(_TEXT), target.decode(_TEXT)])
        for path in sorted(self.whiteouts):
            yield json.dumps(["w", path.decode(_TEXT)])

    @classmethod
    def parse(cls, content: bytes) -> Listing:
        """Reads what may be filled up with zeros. Raises FormatError."""
        directories: dict[bytes, Attributes] = {}
        links: dict[bytes, bytes] = {}
        whiteouts: list[bytes] = []
        unpacking = zlib.decompressobj()  # zlib.decompress refuses what follows
        try:
            text = unpacking.decompress(content).decode()
            if not unpacking.eof:
                raise ValueError("it ends early")
            for line in text.splitlines():
                kind, path, *rest = json.loads(line)
                if kind == "d":
                    mode, uid, gid, mtime, xattrs = rest
                    found = {key.encode(_TEXT): value.encode(_TEXT) for key, value in xattrs.items()}
                    directories[path.encode(_TEXT)] = Attributes(mode, uid, gid, mtime, found)
                elif kind == "l":
                    links[path.encode(_TEXT)] = rest[0].encode(_TEXT)
                else:
                    whiteouts.append(path.encode(_TEXT))
        except (zlib.error, ValueError, TypeError, AttributeError, IndexError) as error:
            raise FormatError(f"the listing of a layer's directories is not right: {error!r}") from error
        return cls(directories, links, frozenset(whiteouts))


def inherited(paths: Iterable[bytes], below: Sequence[Listing]) -> dict[bytes, Attributes]:
    """What directories are like which a layer does not describe; `below` are the layers below it, the uppermost first."""
    return {path: _inherited(path, below) for path in paths}


def _inherited(path: bytes, below: Sequence[Listing]) -> Attributes:
    for listing in below:

        def target(parts: list[bytes], links: Mapping[bytes, bytes] = listing.links) -> bytes | None:
            return links.get(b"/".join(parts))

        where = b"/".join(resolve(path.split(b"/"), target))
        if not where:
            break
        if where in listing.whiteouts:
            break
        if found := listing.directories.get(where):
            return found
    return Attributes()
