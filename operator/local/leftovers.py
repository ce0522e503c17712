"""Removing every trace of a world from the machine, whatever state a crash left it in.

Nothing here trusts a record: it asks the kernel for what lies below the world's directory, is in its cgroup or
its network namespaces. Processes that carry the world's marks have been ended before.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

from kip.local.network import Network, remove_namespace
from kip.local.room import traces
from kip.local.room.cleanup import cleanup_all
from kip.local.volume.control import detach_loops
from kip.local.waiting import until
from kip.local.world import World, WorldError

_PROC = Path("/proc")
_GONE_AFTER = 10.0  # seconds that killed processes may take to be gone


def remove(world: World) -> None:
    """Removes machines, mounts, loop devices, the network and the world's directory.

    Raises:
        WorldError: something does not end, or is still mounted below the world's directory.
    """
    if world.rooted:
        _empty(world)
        cleanup_all(world)
        Network(world).down()
        for namespace in _namespaces(world):
            remove_namespace(namespace)
        traces.detach_loops_below(world.state)
        detach_loops(world)
        traces.unmount_below(world.state)
    _remove_directory(world)


def _empty(world: World) -> None:
    """Kills what is in the world's cgroup or namespaces until nothing is."""

    def missing() -> str | None:
        held = traces.processes(world.cgroup) | set(_inside(world))
        for pid in held:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return f"processes {', '.join(map(str, sorted(held)))} do not end" if held else None

    until(missing, what=f"the end of world {world.name}", seconds=_GONE_AFTER)


def _namespaces(world: World) -> list[Path]:
    return sorted(world.namespaces.glob("*"))


def _inside(world: World) -> Iterator[int]:
    """Processes in one of the world's network namespaces, such as a shell that somebody left open there."""
    ours = {(status.st_dev, status.st_ino) for status in (path.stat() for path in _namespaces(world))}
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                status = (entry / "ns/net").stat()
                if (status.st_dev, status.st_ino) in ours:
                    yield int(entry.name)


def _remove_directory(world: World) -> None:
    # Removing through a mount would remove what is mounted: below a machine's root, the host's own /usr.
    if mounted := traces.mounts_below(world.state):
        raise WorldError(f"{world.state} is not removed: still mounted there: {', '.join(map(str, mounted))}")
    for entry in world.state.glob("*") if world.state.exists() else ():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry != world.record:
            entry.unlink()
    # Last, so that a removal that is interrupted can be taken up again with all that is known.
    if world.state.exists():
        shutil.rmtree(world.state)
    with contextlib.suppress(OSError):  # other worlds are in it
        world.state.parent.rmdir()
