"""What a cell has read of the volume (operator/tunnel/scripts/look.sh), taken apart."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from kip.images.format import BLOCK, FormatError, Trailer

# Bytes. Manifest and configuration of an image have some ten kilobytes, and a pod has a few images.
_LARGEST = 64 << 20
_MACHINES = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}


@dataclass(frozen=True)
class Look:
    """Nothing in it is checked but the layers' trailers, and those only for being of a layer that has that name."""

    platform: str
    """Of the machine, such as linux/arm64."""
    present: frozenset[str]
    """Names of images that containerd has."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """By name, without their directories; those that are not there are left out."""
    trailers: Mapping[str, Trailer] = field(default_factory=dict)
    """By file_id, of layers that are there and complete."""
    broken: Mapping[str, str] = field(default_factory=dict)
    """file_id → why the file is none that could be used."""


def parse(output: bytes) -> Look:
    """Raises FormatError: it is no answer of the script."""
    try:
        unpacker = zlib.decompressobj(31)
        text = unpacker.decompress(output, _LARGEST)
        if unpacker.unconsumed_tail:
            raise FormatError(f"the cell answers with more than {_LARGEST} bytes")
        machine, text = _list(text)
        names, text = _list(text)
        files, text = _contents(names, text)
        names, text = _list(text)
        trailers, broken = _trailers(names, text)
        kind = machine[0]
    except (IndexError, UnicodeDecodeError, ValueError, zlib.error) as error:
        raise FormatError(f"the cell's answer cannot be read: {error}") from error
    return Look(_MACHINES.get(kind, f"linux/{kind}"), frozenset(machine[1:]), files, trailers, broken)


def _list(text: bytes) -> tuple[list[str], bytes]:
    """Lines up to an empty one, and what follows that."""
    if text.startswith(b"\n"):
        return [], text[1:]
    lines, end, rest = text.partition(b"\n\n")
    if not end:
        raise ValueError("it ends too early")
    return lines.decode().split("\n"), rest


def _contents(names: list[str], text: bytes) -> tuple[dict[str, bytes], bytes]:
    files = {}
    for line in names:
        size, _, name = line.partition(" ")
        files[name], text = text[: int(size)], text[int(size) :]
    return files, text


def _trailers(names: list[str], blocks: bytes) -> tuple[dict[str, Trailer], dict[str, str]]:
    trailers, broken = {}, {}
    for number, line in enumerate(names):
        size, _, path = line.partition(" ")
        file_id = f"sha256:{path.rpartition('/')[2].removesuffix('.squashfs')}"
        block = blocks[number * BLOCK : (number + 1) * BLOCK]
        try:
            trailers[file_id] = Trailer.parse(block, file_bytes=int(size), file_id=file_id)
        except FormatError as error:
            broken[file_id] = str(error)
    return trailers, broken
