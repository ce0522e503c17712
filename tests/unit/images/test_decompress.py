"""Whatever a layer is compressed with, its tar comes out, in pieces that are small."""

from __future__ import annotations

import gzip
import os

import pytest
from tests.unit.images.layers import in_pieces

from kip.images.decompress import decompressed, zstd
from kip.images.errors import WrongContent

CONTENT = os.urandom(5000) + bytes(3 << 20) + os.urandom(5000)
WAYS = {"gzip": gzip.compress, "zstd": zstd.compress}


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("piece", [1, 17, 1 << 20])
def test_pieces_of_any_size(how: str, piece: int) -> None:
    blob = WAYS[how](CONTENT) + WAYS[how](b"more")
    out = [*decompressed(in_pieces(blob, piece))]
    assert b"".join(out) == CONTENT + b"more"
    assert max(map(len, out)) <= 1 << 20


@pytest.mark.parametrize("blob", [b"", b"a", b"abc", b"PK\3\4", bytes(600)])
def test_what_is_not_compressed_is_passed_on(blob: bytes) -> None:
    assert b"".join(decompressed(in_pieces(blob, 1))) == blob


@pytest.mark.parametrize("how", WAYS)
def test_what_ends_early_or_is_damaged_is_told(how: str) -> None:
    blob = WAYS[how](CONTENT)
    with pytest.raises(WrongContent, match="ends early"):
        list(decompressed([blob[:-1]]))
    with pytest.raises(WrongContent, match="damaged"):
        list(decompressed([blob[:4] + b"\xff" * 20 + blob[24:]]))


def test_what_follows_a_gzip_is_read_though_it_is_none() -> None:
    pieces = iter([gzip.compress(b"tar"), b"trailing", b"rubbish"])
    assert b"".join(decompressed(pieces)) == b"tar"
    assert next(pieces, None) is None
