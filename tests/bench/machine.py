"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
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


def commit() -> str:
    """The project's commit, with `-dirty` when files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _first(pattern: str, path: Path) -> str:
    found = re.search(pattern, path.read_text(), re.MULTILINE)
    return found[1].strip() if found else "unknown"
