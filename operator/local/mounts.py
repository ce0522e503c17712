"""The kernel's table of mounts, as this process sees it.

Its paths are canonical: a path that leads through a symbolic link is in none of its lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_TABLE = Path("/proc/self/mountinfo")


@dataclass(frozen=True)
class Mount:
    """Something mounted on `point`; of two on the same point the later one is seen."""

    point: Path
    file_system: str


def mounts() -> list[Mount]:
    """Every mount, in the order in which they were made."""
    return parse(_TABLE.read_text())


def parse(table: str) -> list[Mount]:
    """The mounts in the text of a mountinfo."""
    found = []
    for line in table.splitlines():
        before, _, after = line.partition(" - ")
        found.append(Mount(Path(_unescaped(before.split()[4])), after.split()[0]))
    return found


def _unescaped(field: str) -> str:
    """A field of mountinfo: the kernel writes space, tab, newline and backslash as octal escapes."""
    for code in ("040", "011", "012", "134"):
        field = field.replace(f"\\{code}", chr(int(code, 8)))
    return field
