"""The hash tree of dm-verity, as `veritysetup format --no-superblock` makes it: format 1, SHA-256, blocks of 4096 bytes.

Layout: the kernel's Documentation/admin-guide/device-mapper/verity.rst. Of the levels above the data the top one comes
first; each block holds the hashes of 128 blocks of the level below, and a block is hashed after the salt.
"""

from __future__ import annotations

import hashlib

from kip.images.format import BLOCK

_HASH = 32  # bytes


class Tree:
    """Takes a device's content in pieces; `finish` gives the tree. Keeps a 128th of the content in memory."""

    def __init__(self, salt: bytes) -> None:
        self._salted = hashlib.sha256(salt)
        self._rest = b""
        self._hashes = bytearray()

    def update(self, piece: bytes) -> None:
        """The next piece, of any size."""
        content = self._rest + piece if self._rest else piece
        whole = len(content) - len(content) % BLOCK
        self._hashes += self._hash_all(memoryview(content)[:whole])
        self._rest = content[whole:]

    def finish(self) -> tuple[bytes, str]:
        """The tree, and its root in hexadecimal digits. The content must have been whole blocks, at least one."""
        if self._rest or not self._hashes:
            raise ValueError(f"{len(self._rest)} bytes after {len(self._hashes) // _HASH} whole blocks")
        level, levels = bytes(self._hashes), list[bytes]()
        while len(level) > _HASH:
            level += bytes(-len(level) % BLOCK)
            levels.append(level)
            level = bytes(self._hash_all(memoryview(level)))
        return b"".join(reversed(levels)), level.hex()

    def _hash_all(self, content: memoryview) -> bytearray:
        hashes, salted = bytearray(), self._salted
        for at in range(0, len(content), BLOCK):
            hashing = salted.copy()
            hashing.update(content[at : at + BLOCK])
            hashes += hashing.digest()
        return hashes


def tree_bytes(data_bytes: int) -> int:
    """Size of the tree over that many bytes, which are whole blocks."""
    blocks, total = data_bytes // BLOCK, 0
    while blocks > 1:
        blocks = -(-blocks * _HASH // BLOCK)
        total += blocks * BLOCK
    return total
