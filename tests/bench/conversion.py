"""How fast layers become files of the image cache: what one processor does in a second."""

from __future__ import annotations

import asyncio
import gzip
import io
import random
import resource
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from kip.images.convert import convert_layer
from kip.images.format import Layer
from kip.images.volume import Volume
from kip.model.clock import SystemClock
from kip.oci.manifest import digest_of

_PIECE = 256 << 10
_WORDS = 4000  # of which contents are made: they compress to a third, as programs and libraries do


@dataclass(frozen=True)
class Conversion:
    """One layer."""

    files: int
    tar_bytes: int
    file_bytes: int
    cpu_s: float
    """Of this process and of mksquashfs together."""

    @property
    def mb_per_cpu_s(self) -> float:
        return self.tar_bytes / 1e6 / self.cpu_s


def measure() -> tuple[Conversion, Conversion]:
    """A layer of many small files, and one of few large ones; both compressed by gzip."""
    return _convert(files=12_000, each=8 << 10), _convert(files=4, each=24 << 20)


def _convert(*, files: int, each: int) -> Conversion:
    tar = _tar(files, each)
    blob = gzip.compress(tar, 6)
    layer = Layer(digest_of(tar), digest_of(blob), len(blob))

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(blob), _PIECE):
            yield blob[at : at + _PIECE]

    with tempfile.TemporaryDirectory() as directory:
        volume = Volume(Path(directory), SystemClock())
        before = _cpu_s()
        trailer = asyncio.run(convert_layer(volume, layer, pieces, chain_id=layer.diff_id))
        return Conversion(files, len(tar), trailer.file_bytes, _cpu_s() - before)


def _tar(files: int, each: int) -> bytes:
    out, contents = io.BytesIO(), _contents(each)
    with tarfile.open(fileobj=out, mode="w") as archive:
        for number in range(files):
            entry = tarfile.TarInfo(f"d{number % 100}/f{number}")
            entry.size = each
            archive.addfile(entry, io.BytesIO(next(contents)))
    return out.getvalue()


def _contents(size: int) -> Iterator[bytes]:
    chance = random.Random(1)
    words = [chance.randbytes(chance.randint(4, 24)) for _ in range(_WORDS)]
    while True:
        text = b"".join(chance.choices(words, k=size // 13 + 1))
        yield text[:size].ljust(size, b"\0")


def _cpu_s() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
