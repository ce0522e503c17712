"""Whether machines can be booted here at all, and how many; asked before the first is tried."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from kip.local.mounts import Mount, mounts
from kip.local.world import World, WorldError

log = logging.getLogger(__name__)

_INOTIFY_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
# The kernel lets a user have 128. A machine has 13 (kubelet 6, systemd 3, containerd 2, logind, dbus), the control
# plane 23, all of them root's; with none left systemd exits as soon as it starts, without a word.
_INOTIFY_WANTED = 1024


def check_host(world: World) -> None:
    """Raises WorldError that says what to change, if no machine can be booted on this host."""
    if os.geteuid() != 0:
        raise WorldError("the machine room boots machines: it has to run as root")
    if shutil.which("runc") is None:
        raise WorldError("the machine room needs runc (Debian package runc)")
    if file_system_of(world.state.resolve(), mounts()) == "overlay":
        raise WorldError(
            f"{world.state} lies on overlayfs, on which a machine's own overlays are not possible: "
            "set KIP_LOCAL_STATE to a directory on a disk or a tmpfs"
        )


def allow_many_machines(limit: Path = _INOTIFY_LIMIT) -> None:
    """Raises the host's limit of inotify instances where it is too low for a dozen machines.

    It is not lowered when the world goes: others may count on it by then, and it costs nothing.
    """
    try:
        allowed = int(limit.read_text())
        if allowed < _INOTIFY_WANTED:
            limit.write_text(f"{_INOTIFY_WANTED}\n")
            log.info("fs.inotify.max_user_instances raised from %d to %d", allowed, _INOTIFY_WANTED)
    except OSError as error:
        log.warning("machines may end as they start when many run: %s cannot be raised: %s", limit, error)


def file_system_of(path: Path, table: Iterable[Mount]) -> str:
    """The type of the file system that a canonical path is on, among those mounts."""
    best, found = -1, ""
    for mount in table:
        depth = len(mount.point.parts)
        if path.is_relative_to(mount.point) and depth >= best:
            best, found = depth, mount.file_system
    return found
