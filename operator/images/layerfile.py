"""Makes a squashfs a layer's file, by what it gets behind it; format.Trailer says what that is."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from kip.images import squashfs, verity
from kip.images.format import BLOCK, Trailer
from kip.images.listing import Listing
from kip.images.volume import sync

_PIECE = 1 << 20  # bytes read at once


def complete(path: Path, diff_id: str, tar_bytes: int, listing: Listing, chain_id: str) -> Trailer:
    """Appends hash tree, listing and trailer, and syncs. Raises OSError, and FormatError if it is no squashfs."""
    with path.open("r+b") as file:
        squashfs.own_root(file.fileno())
        data_bytes = squashfs.padded(file.seek(0, os.SEEK_END))
        file.truncate(data_bytes)
        salt = diff_id.removeprefix("sha256:")
        tree, whole = verity.Tree(bytes.fromhex(salt)), hashlib.sha256()
        file.seek(0)
        while piece := file.read(_PIECE):
            whole.update(piece)
            tree.update(piece)
        hashes, root_hash = tree.finish()
        names = listing.to_bytes()
        names += bytes(-len(names) % BLOCK)
        for part in (hashes, names):
            whole.update(part)
            file.write(part)
        trailer = Trailer(
            diff_id=diff_id,
            tar_bytes=tar_bytes,
            data_bytes=data_bytes,
            tree_bytes=len(hashes),
            root_hash=root_hash,
            salt=salt,
            sha256=whole.hexdigest(),
            listing_bytes=len(names),
            chain_id=chain_id,
        )
        file.write(trailer.to_bytes())
        sync(file)
        return trailer


def read_listing(path: Path, trailer: Trailer) -> Listing:
    """The listing of a complete file. Raises OSError, FormatError."""
    with path.open("rb") as file:
        file.seek(trailer.data_bytes + trailer.tree_bytes)
        return Listing.parse(file.read(trailer.listing_bytes))
