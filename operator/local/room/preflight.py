"""Whether machines can be booted here at all, asked before the first is tried."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from kip.local.room.traces import unescaped
from kip.local.world import World, WorldError


def check_host(world: World) -> None:
    """Raises WorldError that says what to change, if no machine can be booted on this host."""
    if os.geteuid() != 0:
        raise WorldError("the machine room boots machines: it has to run as root")
    if shutil.which("runc") is None:
        raise WorldError("the machine room needs runc (Debian package runc)")
    mountinfo = Path("/proc/self/mountinfo").read_text()
    if file_system_of(world.state.resolve(), mountinfo) == "overlay":
        raise WorldError(
            f"{world.state} lies on overlayfs, on which a machine's own overlays are not possible: "
            "set KIP_LOCAL_STATE to a directory on a disk or a tmpfs"
        )


def file_system_of(path: Path, mountinfo: str) -> str:
    """The type of the file system that the path is on, by the text of /proc/self/mountinfo."""
    best, found = -1, ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(unescaped(before.split()[4]))
        # Of two mounts on the same point the later one is seen.
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), after.split()[0]
    return found
