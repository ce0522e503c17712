"""The journal of a cell's own programs, at `/logs/cells/<cell>`.

A kubelet has the journal of its machine at `/logs/?query=kubelet` (NodeLogQuery); a virtual node has many machines, so
the cell is named in the path. The parameters are the kubelet's. What is asked of a cell is bounded in lines, bytes and
time, whoever asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from kip.kubelet.http1 import HttpError
from kip.kubelet.logoptions import to_ns

#: The units of a cell's journal behind each name that may be asked for.
UNITS: Mapping[str, tuple[str, ...]] = {
    "kubelet": ("kubelet.service",),
    "containerd": ("containerd.service",),
    "cloud-init": (
        "cloud-init-local.service",
        "cloud-init.service",
        "cloud-config.service",
        "cloud-final.service",
        "kip-first-boot.service",
        "kip-boot.service",
    ),
}
USUAL_LINES = 500
MOST_LINES = 10_000
MOST_BYTES = 2**20
#: Seconds that a cell may take; a journal is read within one.
MOST_S = 15.0
# What user data's scripts print does not come into the journal on every image.
_SCRIPT_OUTPUT = "/var/log/cloud-init-output.log"
_NS = 10**9


@dataclass(frozen=True, slots=True)
class SystemLogOptions:
    """Which part of which units' journal."""

    names: tuple[str, ...]
    """Of UNITS, at least one."""
    tail_lines: int = USUAL_LINES
    since_s: int | None = None
    """Seconds since 1970."""


class SystemLogs(Protocol):
    """Runs a command on a cell."""

    async def run(self, cell: str, command: str, *, most_bytes: int, timeout_s: float) -> bytes:
        """What it prints. Raises HttpError 404 for no cell of this node, 502 when the cell does not answer, 503 while it is
        not known which cells there are."""
        ...


def parse(query: Iterable[tuple[str, str]]) -> SystemLogOptions:
    """Read the decoded parameters; without `query` all units are meant. Raises HttpError 400 with the parameter's name."""
    names: list[str] = []
    values: dict[str, str] = {}
    for name, value in query:
        if name == "query":
            names.append(value)
        elif name in ("tailLines", "sinceTime"):
            values.setdefault(name, value)
        else:
            raise HttpError(400, f"{name[:80]!r}: expected query, tailLines or sinceTime")
    for unit in names:
        if unit not in UNITS:
            raise HttpError(400, f"query: {unit[:80]!r}, expected {', '.join(UNITS)}")
    return SystemLogOptions(
        names=tuple(unit for unit in UNITS if unit in names or not names),
        tail_lines=_lines(values.get("tailLines")),
        since_s=_since(values.get("sinceTime")),
    )


def command(options: SystemLogOptions) -> str:
    """For a shell on the cell; prints the newest lines of all units together, at most MOST_BYTES of them."""
    units = " ".join(f"-u {unit}" for name in options.names for unit in UNITS[name])
    since = f" --since @{options.since_s}" if options.since_s is not None else ""
    read = f"journalctl --no-pager --quiet --utc -o short-iso -n {options.tail_lines}{since} {units}"
    if "cloud-init" in options.names:
        read += (
            f"; if [ -s {_SCRIPT_OUTPUT} ]; then echo '-- {_SCRIPT_OUTPUT}';"
            f" tail -n {options.tail_lines} {_SCRIPT_OUTPUT}; fi"
        )
    return f"{{ {read}; }} 2>&1 | tail -c {MOST_BYTES}"


def _lines(text: str | None) -> int:
    if text is None:
        return USUAL_LINES
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) or int(text) > MOST_LINES:
        raise HttpError(400, f"tailLines: {text[:80]!r}, expected a whole number up to {MOST_LINES}")
    return int(text)


def _since(text: str | None) -> int | None:
    if text is None:
        return None
    moment = to_ns(text)
    if moment is None:
        raise HttpError(400, f"sinceTime: {text[:80]!r}, expected a time like 2006-01-02T15:04:05Z")
    return moment // _NS
