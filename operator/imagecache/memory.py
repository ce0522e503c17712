"""How many layers are converted at once, and with how much memory each, so that the controller keeps within its limit.

Sizes are in MiB. They were measured with mksquashfs 4.5.1 and Python 3.11; layers of 300 MB in 3 files, and of 450 MB in
200 000 files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kip.images.mksquashfs import Limits
from kip.model.quantity import human_bytes

MIB = 1 << 20
# The process itself has 105; the rest is for the pods and Cells of a cluster with some thousand of them.
PROCESS = 192
# What a conversion takes besides what it is given: 16 for the pieces of a download that are under way, 130 to decompress
# zstd whose window is the largest that is allowed, and 24 for mksquashfs besides its buffers. Each thread that compresses
# adds 4.
CONVERSION, THREAD = 170, 4
# Bytes in both programs for each byte of a layer's names and attributes as tree.py counts them: 1.2 here, 1.8 in mksquashfs,
# and a half for the rare layer that is read twice.
NAMES = 3.5
LEAST_MEMORY = 64
# Enough for 100 000 files.
LEAST_NAMES = 40
# Of the limit; the rest is for sockets, pipes, and what is written and not on the volume yet.
_USABLE = 0.9
# cgroup v1 says so where there is no limit (PAGE_COUNTER_MAX, in pages).
_NO_LIMIT = 1 << 62


@dataclass(frozen=True)
class Share:
    """What conversions get."""

    parallel: int
    """How many at once."""
    limits: Limits
    """For each."""
    reason: str
    """Why so, for people."""
    short: bool = False
    """It is less than what is configured, or more than the limit: somebody should change one of them."""


def share(limit_bytes: int | None, *, parallel: int, processors: int, memory_bytes: int) -> Share:
    """As it is configured, if that is within the limit; else with less memory for each, and if that is too little fewer.

    Args:
        limit_bytes: what the process and its children may take together; None if there is no limit.
        parallel: how many conversions at once are wanted.
        processors: threads that compress, for each.
        memory_bytes: for the buffers of mksquashfs, for each.
    """
    memory = memory_bytes // MIB
    if limit_bytes is None:
        return Share(parallel, Limits(processors, memory), "there is no limit of memory")
    usable = int(limit_bytes / MIB * _USABLE) - PROCESS
    limit = human_bytes(limit_bytes)
    for fewer in range(parallel, 0, -1):
        left = usable // fewer - _fixed(processors)
        buffers = min(memory, left - int(LEAST_NAMES * NAMES))
        if buffers >= LEAST_MEMORY:
            limits = Limits(processors, buffers, _names_bytes(left - buffers))
            if (fewer, buffers) == (parallel, memory):
                return Share(parallel, limits, f"the limit of {limit} is enough")
            needed = human_bytes(needed_bytes(parallel, processors, memory))
            told = f"what is configured needs {needed} of memory, and the limit is {limit}"
            return Share(fewer, limits, told, short=True)
    needed = human_bytes(needed_bytes(1, processors, LEAST_MEMORY))
    told = f"a conversion needs {needed} of memory, and the limit is {limit}: a large layer gets the process killed"
    return Share(1, Limits(processors, LEAST_MEMORY, LEAST_NAMES * MIB), told, short=True)


def needed_bytes(parallel: int, processors: int, memory: int) -> int:
    """The least limit with which so many conversions at once get that memory each."""
    each = _fixed(processors) + memory + int(LEAST_NAMES * NAMES)
    return math.ceil((PROCESS + parallel * each) / _USABLE) * MIB


def _fixed(processors: int) -> int:
    return CONVERSION + THREAD * processors


def _names_bytes(left: int) -> int:
    return min(Limits().names_bytes, int(left / NAMES) * MIB)


def limit_of(cgroups: str, root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The smallest limit of memory in bytes that holds for a process; None if there is none, or none that can be seen.

    Args:
        cgroups: what /proc/self/cgroup says: of cgroup v2 one line `0::/PATH`, of v1 one for `memory`.
        root: where cgroups are mounted. In a container its own is there, whatever its path is called outside.
    """
    found = [*_limits(cgroups, root)]
    return min(found, default=None)


def _limits(cgroups: str, root: Path) -> Iterator[int]:
    for line in cgroups.splitlines():
        _, kinds, path = line.split(":", 2)
        if kinds not in ("", "memory"):
            continue
        top, name = (root / "memory", "memory.limit_in_bytes") if kinds else (root, "memory.max")
        where = PurePosixPath(path.lstrip("/"))
        for group in (where, *where.parents):
            try:
                text = (top / group / name).read_text().strip()
            except OSError:
                continue
            if text.isdecimal() and int(text) < _NO_LIMIT:
                yield int(text)
