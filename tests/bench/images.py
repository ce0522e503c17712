"""A pod whose image has 1 GB, pulled and from the cache: time until its container runs, and what crosses the network.

`python -m tests.bench.images` measures this alone and replaces its section in docs/performance.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import yaml
from tests.bench import starts
from tests.bench.lab import Lab, lab
from tests.unit.images.layers import directory, file, tar_of

from kip.local import lifecycle
from kip.local.processes import Processes
from kip.local.volume import control
from kip.local.volume.control import Shape

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))  # for `support`

from support.images import cache, push

SIZE = 1_000_000_000
#: What a start reads of its image: Slacker, FAST'16 (6.4 %).
PART = 0.064
#: EFS at its best, and what one client of it gets without efs-utils.
FAR = Shape(latency_ms=1.0, mib_per_s=500.0)
NEAR = Shape()
_ENDPOINT = "fs-0.efs.us-east-1.amazonaws.com:/"
_STARTS = 5
_BLOB = re.compile(r'(\S+) "GET /v2/\S+/blobs/(sha256:[0-9a-f]{64})\S* HTTP/1.1" 200 ')


@dataclass(frozen=True)
class Run:
    """One start."""

    seconds: float
    """From the operator's connection to the cell until the container is started."""
    bytes: int
    """Of the registry, or of the volume."""


@dataclass(frozen=True)
class Compared:
    """One image."""

    what: str
    image_bytes: int
    """Compressed, as a registry counts."""
    caching_s: float
    pulled: Run
    cached: Run
    cached_far: Run


@dataclass(frozen=True)
class Images:
    """Everything about images."""

    compared: Sequence[Compared]
    present: Sequence[float]
    """Seconds of starts with an image that the machine brings: what no cache can do without."""
    held_ms: Sequence[float]
    """For how long a kubelet that asks for its pod is not shown it, when the cache has nothing for that."""


async def measure(world: Lab) -> Images:
    """With images that are made for it, and an operator that has an image cache meanwhile."""
    async with _image_cache(world):
        held_ms = [await _uncached(world, number) for number in range(_STARTS)]
        present = [(await _start(world, f"present-{number}")).seconds for number in range(_STARTS)]
        small = await _compare(
            world, "small", "many small files", _small(), "cat /data/00[0-9]/* /data/01[0-2]/*"
        )
        large = await _compare(world, "large", "few large files", _large(), "head -q -c 6400000 /data/*")
    return Images((small, large), present, held_ms)


async def _uncached(world: Lab, number: int) -> float:
    image, name = f"bench.test/tiny-{number}:1", f"uncached-{number}"
    await asyncio.to_thread(push, world.world, image, tar_of(file("a", str(number).encode())))
    world.images[name] = (image, ["sleep", "infinity"])
    return (await _start(world, name)).held_s * 1000


def _small() -> bytes:
    """20,000 files in 200 directories."""
    names = [(f"data/{d:03}", range(100)) for d in range(200)]
    size = SIZE // 20_000
    return tar_of(
        directory("data"),
        *(
            entry
            for name, files in names
            for entry in (directory(name), *(file(f"{name}/{n:02}", _content(size)) for n in files))
        ),
    )


def _large() -> bytes:
    return tar_of(directory("data"), *(file(f"data/{n}", _content(SIZE // 10)) for n in range(10)))


def _content(size: int) -> bytes:
    """As compressible as programs are: to some 40 %."""
    block = 5000
    return b"".join(
        os.urandom(min(block, size - at) * 2 // 5).ljust(min(block, size - at), b"\0")
        for at in range(0, size, block)
    )


async def _compare(world: Lab, name: str, what: str, layer: bytes, reading: str) -> Compared:
    image = f"bench.test/{name}:1"
    await asyncio.to_thread(push, world.world, image, layer)
    command = ["sh", "-c", f"{reading} >/dev/null; exec sleep infinity"]
    names = [f"{name}-{how}" for how in ("pulled", "near", "far")]
    world.images |= dict.fromkeys(names, (image, command))
    pulled = await _start(world, names[0])
    begin = time.monotonic()
    described = await asyncio.to_thread(cache, world.world, image)
    caching_s = time.monotonic() - begin
    downloaded = sum(layer.blob_bytes for layer in described.layers if layer.digest in pulled.asked)
    runs = []
    for each, shape in zip(names[1:], (NEAR, FAR), strict=True):
        control.shape(world.world, shape)
        found = await _start(world, each)
        runs.append(Run(found.seconds, found.read))
    control.shape(world.world)
    return Compared(what, described.blob_bytes, caching_s, Run(pulled.seconds, downloaded), *runs)


@dataclass(frozen=True)
class _Started:
    seconds: float
    """From the operator's connection until the container is started."""
    held_s: float
    """From when the kubelet asks for pods until it is shown its own; 0 if that was before."""
    read: int
    """Bytes of the volume."""
    asked: set[str]
    """Blobs that the registry was asked for."""


async def _start(world: Lab, name: str) -> _Started:
    log = world.world.logs / "registry.log"
    before = log.stat().st_size
    [start] = await starts.together(world, [name])
    address = (await world.cells())[name]["status"]["ip"]
    # What it reads at its start it has read when a second goes by in which nothing more is read.
    host = f"ip-{address.replace('.', '-')}"
    read, last = control.reads(world.world, host).bytes, -1
    while read != last:
        await asyncio.sleep(1)
        read, last = control.reads(world.world, host).bytes, read
    text = log.read_bytes()[before:].decode()
    asked = {found[2] for found in _BLOB.finditer(text) if found[1] == address}
    await world.delete(name)
    held_s = max(0.0, start.between("watching", "shown"))
    return _Started(start.between("connected", "started"), held_s, read, asked)


@asynccontextmanager
async def _image_cache(world: Lab) -> AsyncIterator[None]:
    path = world.world.provider_config
    before = path.read_text()
    config = yaml.safe_load(before)
    config["cells"]["imageCache"] = {"endpoint": _ENDPOINT}
    try:
        await _configured(world, yaml.safe_dump(config, sort_keys=False))
        yield
    finally:
        with contextlib.suppress(OSError):
            control.shape(world.world)
        await _configured(world, before)


async def _configured(world: Lab, text: str) -> None:
    Processes(world.world).stop("operator")
    world.world.provider_config.write_text(text)
    await asyncio.to_thread(lifecycle.up, world.world.name)


async def _alone(name: str) -> Images:
    async with lab(name) as world:
        return await measure(world)


def _replaced(page: str, section: str) -> str:
    """The page with this section in the place of the one of the same heading, or before that of the operator's process."""
    heading = section.partition("\n")[0]
    before, found, rest = page.partition(f"{heading}\n")
    if not found:
        before, _, rest = page.partition("## The operator's process\n")
        return f"{before}{section}\n## The operator's process\n{rest}"
    after = rest.partition("\n## ")[2]
    return f"{before}{section}\n## {after}"


if __name__ == "__main__":
    from tests.bench import machine
    from tests.bench.report import of_images

    about = machine.commit()
    heading, *lines = of_images(asyncio.run(_alone("kipbenchi")))
    told = f"Measured by itself (`python -m tests.bench.images`) on {date.today().isoformat()} at commit {about}."
    path = Path(__file__).resolve().parents[2] / "docs/performance.md"
    path.write_text(_replaced(path.read_text(), "\n".join([heading, "", told, *lines])))
