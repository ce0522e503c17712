"""Layers for tests: made by Python's own tarfile, handed out by a source without a network."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kip.images.format import Layer
from kip.oci.manifest import Descriptor, Manifest
from kip.oci.reference import Reference, Repository

TIME = 1_700_000_000


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def info(name: str, kind: bytes = tarfile.REGTYPE, **more: Any) -> tarfile.TarInfo:
    """An entry. `xattrs` are PAX records of their own."""
    xattrs = more.pop("xattrs", {})
    entry = tarfile.TarInfo(name)
    entry.type, entry.mtime, entry.mode = kind, TIME, 0o755 if kind == tarfile.DIRTYPE else 0o644
    entry.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in xattrs.items()}
    for key, value in more.items():
        setattr(entry, key, value)
    return entry


def directory(name: str, **more: Any) -> tarfile.TarInfo:
    return info(name, tarfile.DIRTYPE, **more)


def file(name: str, content: bytes = b"", **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    return info(name, size=len(content), **more), content


def link(name: str, target: str, **more: Any) -> tarfile.TarInfo:
    return info(name, tarfile.LNKTYPE, linkname=target, **more)


def symlink(name: str, target: str, **more: Any) -> tarfile.TarInfo:
    return info(name, tarfile.SYMTYPE, linkname=target, mode=0o777, **more)


def tar_of(
    *entries: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes], kind: int = tarfile.PAX_FORMAT
) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind, errors="surrogateescape") as archive:
        for entry in entries:
            header, content = entry if isinstance(entry, tuple) else (entry, b"")
            archive.addfile(header, io.BytesIO(content))
    return out.getvalue()


def layer_of(tar: bytes, blob: bytes | None = None) -> Layer:
    """The layer with that tar, which is its own blob unless another is given."""
    blob = tar if blob is None else blob
    return Layer(sha256(tar), sha256(blob), len(blob))


@dataclass
class Memory:
    """A source of blobs and manifests that are in memory; remembers which blobs were asked for."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)
    piece: int = 64 << 10

    @classmethod
    def of(cls, *blobs: bytes) -> Memory:
        return cls({sha256(blob): blob for blob in blobs})

    async def manifest(self, reference: Reference) -> Manifest:
        return self.manifests[reference.target]

    async def blob(self, repository: Repository, descriptor: Descriptor) -> AsyncIterator[bytes]:
        self.opened.append(descriptor.digest)
        for piece in in_pieces(self.blobs[descriptor.digest], self.piece):
            yield piece

    def opener(self, digest: str) -> Callable[[], AsyncIterator[bytes]]:
        """What `convert_layer` takes."""
        return lambda: self.blob(Repository("registry.test", "app"), Descriptor("", digest, 0))


def in_pieces(content: bytes, size: int) -> Sequence[bytes]:
    return [content[at : at + size] for at in range(0, len(content), size)]


def programs(root: Path) -> list[str]:
    """Running mksquashfs that write to a volume."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if b"mksquashfs" in command and os.fsencode(root) in command:
            found.append(command.decode())
    return found
