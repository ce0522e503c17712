"""Memory and idle processor time of the operator's process."""

from __future__ import annotations

import asyncio
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

_SETTLE_S = 3.0  # what was just done may still be tidied up
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Footprint:
    """One look at it: MiB, and per cent of one processor."""

    cells: int
    rss_mib: float
    pss_mib: float
    cpu_percent: float


async def measure(pid: int, *, cells: int, idle_s: float) -> Footprint:
    """Waits `idle_s` while nothing happens, and looks."""
    await asyncio.sleep(_SETTLE_S)
    before, begun = processor_s(pid), time.monotonic()
    await asyncio.sleep(idle_s)
    used, passed = processor_s(pid) - before, time.monotonic() - begun
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return Footprint(cells, _mib(rollup, "Rss"), _mib(rollup, "Pss"), 100 * used / passed)


def processor_s(pid: int) -> float:
    """Processor seconds that the process has used, those of the kernel for it included (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _mib(rollup: str, name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB", rollup, re.MULTILINE)
    if found is None:
        raise ValueError(f"no {name} in smaps_rollup")
    return int(found[1]) / 1024
