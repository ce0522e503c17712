"""A layer's blob in pieces → its tar in pieces: gzip, zstd or neither, told by the first bytes, as containerd does."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain

from kip.images.errors import WrongContent

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_LARGEST = 1 << 20  # bytes of a piece that goes out: a few kB can decompress to gigabytes
_GZIP = b"\x1f\x8b\x08"
_ZSTD = b"\x28\xb5\x2f\xfd"


def decompressed(blob: Iterable[bytes]) -> Iterator[bytes]:
    """Raises WrongContent if what is compressed is damaged or ends early."""
    pieces = iter(blob)
    head = b""
    while len(head) < 4 and (piece := next(pieces, None)) is not None:
        head += piece
    whole = chain([head], pieces)
    if head.startswith(_GZIP):
        return _gunzip(whole)
    # Also frames to be skipped, which `pzstd` and eStargz's relatives begin with.
    if head.startswith(_ZSTD) or (head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5):
        return _unzstd(whole)
    return whole


def _gunzip(blob: Iterator[bytes]) -> Iterator[bytes]:
    """Any number of members after each other; what follows them and is none is left out, as gzip itself does."""
    member = zlib.decompressobj(wbits=31)
    for piece in blob:
        rest = piece
        while rest:
            if member.eof:
                if not _GZIP.startswith(rest[: len(_GZIP)]):
                    for _ in blob:  # it is part of the blob's digest
                        pass
                    return
                member = zlib.decompressobj(wbits=31)
            try:
                yield member.decompress(rest, _LARGEST)
            except zlib.error as error:
                raise WrongContent(f"the layer's gzip is damaged: {error}") from error
            rest = member.unused_data if member.eof else member.unconsumed_tail
    yield member.flush()
    if not member.eof:
        raise WrongContent("the layer's gzip ends early")


def _unzstd(blob: Iterator[bytes]) -> Iterator[bytes]:
    frame = zstd.ZstdDecompressor()
    for piece in blob:
        rest = piece
        while rest or not (frame.eof or frame.needs_input):
            if frame.eof:
                frame = zstd.ZstdDecompressor()
            try:
                yield frame.decompress(rest, _LARGEST)
            except zstd.ZstdError as error:
                raise WrongContent(f"the layer's zstd is damaged: {error}") from error
            rest = frame.unused_data if frame.eof else b""
    if not frame.eof:
        raise WrongContent("the layer's zstd ends early")
