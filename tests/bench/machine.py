"""What the numbers were measured on."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import subprocess
import time
from pathlib import Path


def describe() -> str:
    """Processors, memory, system: `2 × AMD EPYC 7B13, 24 GiB, Debian GNU/Linux 12 (bookworm), Linux 6.1, Python 3.11.2`."""
    model = _first(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    system = _first(r'^PRETTY_NAME="?([^"\n]+)"?$', Path("/etc/os-release"))
    processors = len(os.sched_getaffinity(0))
    return (
        f"{processors} × {model}, {memory / 2**30:.0f} GiB, {system}, Linux {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}"
    )


async def busy_processors(seconds: float = 3.0) -> float:
    """How many processors whatever runs here keeps busy, on the average of so many seconds (proc(5), stat)."""
    before, begun = _busy_s(), time.monotonic()
    await asyncio.sleep(seconds)
    return (_busy_s() - before) / (time.monotonic() - begun)


def _busy_s() -> float:
    user, nice, system, _idle, _waiting, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def commit() -> str:
    """The project's commit, with `-dirty` when files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _first(pattern: str, path: Path) -> str:
    found = re.search(pattern, path.read_text(), re.MULTILINE)
    return found[1].strip() if found else "unknown"
