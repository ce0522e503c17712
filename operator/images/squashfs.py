"""mksquashfs: how it is called, and the few bytes of its file that it gives no option for.

Format: the kernel's Documentation/filesystems/squashfs.rst and fs/squashfs/squashfs_fs.h. Options: those that 4.5.1
(Debian 12) and all later versions have.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kip.images.format import BLOCK, FormatError

MAGIC = 0x73717368
_VERSION = (4, 0)
_ZSTD = 6
_SUPERBLOCK = struct.Struct("<IIIIIHHHHHHQQQQQQQQ")
_INODE = struct.Struct("<HHHHI")  # type, mode, number of uid, number of gid, mtime
_METADATA = 8192  # bytes in a block of metadata; two more say how many
_STORED = 1 << 15  # set where they are not compressed
_IDS = _METADATA // 4


@dataclass(frozen=True)
class Superblock:
    """What a squashfs says about itself."""

    inodes: int
    bytes_used: int
    ids: int
    root: int
    """Of the root's inode: block << 16 | offset in it, from the beginning of the inode table."""
    id_table: int
    inode_table: int

    @classmethod
    def parse(cls, block: bytes) -> Superblock:
        """Reads a file's first bytes. Raises FormatError if that is no squashfs of version 4 with zstd."""
        if len(block) < _SUPERBLOCK.size:
            raise FormatError("no squashfs: too short")
        fields = _SUPERBLOCK.unpack_from(block)
        magic, inodes, _, _, _, compression, _, _, ids, *version = fields[:11]
        root, used, id_table, _, inode_table = fields[11:16]
        if magic != MAGIC or tuple(version) != _VERSION or compression != _ZSTD:
            raise FormatError(f"no squashfs 4.0 with zstd: begins with {block[:32].hex()}")
        return cls(inodes, used, ids, root, id_table, inode_table)


def command(output: Path, *, processors: int, memory_mib: int) -> Sequence[str]:
    """The command that reads a tar and writes `output`. Its result depends on the tar alone, but for what `own_root` sets.

    Without compression of inodes (-noI), because of `own_root`. mksquashfs reads back what it has written where two files
    look the same; -no-duplicates would not, but base images have copies by the megabyte.
    """
    return (
        *(
            "mksquashfs",
            "-",
            os.fspath(output),
            "-tar",
            "-noappend",
            "-comp",
            "zstd",
            "-Xcompression-level",
            "3",
        ),
        *("-b", "131072", "-noI", "-xattrs", "-reproducible", "-mkfs-time", "0", "-root-mode", "0755"),
        *("-processors", str(processors), "-mem", f"{memory_mib}M", "-no-progress", "-quiet"),
    )


def own_root(descriptor: int) -> None:
    """Gives the top directory to root, as of 1970. mksquashfs gives it to who runs it, as of now (4.6 has options for that),
    and containerd gives a container's `/` to whom the layer's top belongs. Raises FormatError, OSError.

    The file has an inode of root's, the caller sees to that.
    """
    superblock = Superblock.parse(os.pread(descriptor, _SUPERBLOCK.size, 0))
    root = _id_number(descriptor, superblock, 0)
    start, offset = superblock.inode_table + (superblock.root >> 16), superblock.root & 0xFFFF
    # An inode may begin in one block and end in the next one; all but the last are full.
    places = [
        start + at // _METADATA * (_METADATA + 2) + 2 + at % _METADATA for at in range(offset, offset + 12)
    ]
    kind, mode, *_ = _INODE.unpack(b"".join(os.pread(descriptor, 1, place) for place in places))
    for place, byte in zip(places, _INODE.pack(kind, mode, root, root, 0), strict=True):
        os.pwrite(descriptor, bytes((byte,)), place)


def _id_number(descriptor: int, superblock: Superblock, wanted: int) -> int:
    """The place of an owner in the table of owners, which -noI leaves uncompressed too."""
    blocks = -(-superblock.ids // _IDS)
    starts = struct.unpack(f"<{blocks}Q", os.pread(descriptor, 8 * blocks, superblock.id_table))
    ids: list[int] = []
    for start in starts:
        (size,) = struct.unpack("<H", os.pread(descriptor, 2, start))
        if not size & _STORED:
            raise FormatError("the table of owners is compressed")
        size &= ~_STORED
        ids += struct.unpack(f"<{size // 4}I", os.pread(descriptor, size, start + 2))
    if wanted not in ids:
        raise FormatError(f"nothing belongs to {wanted}")
    return ids.index(wanted)


def padded(size: int) -> int:
    """A size filled up to whole blocks."""
    return size + -size % BLOCK
