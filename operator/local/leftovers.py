"""Removing every trace of a world from the machine, whatever state a crash left it in.

Nothing here trusts a record: it asks the kernel for what lies below the world's directory, carries its marks, or is in
its cgroup.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from kip.local.network import Network
from kip.local.waiting import until
from kip.local.world import World, WorldError

_CGROUPS = Path("/sys/fs/cgroup")
_PROC = Path("/proc")
_GONE_AFTER = 10.0  # seconds that killed processes may take to leave their cgroup


def remove(world: World) -> None:
    """Removes machines, processes in the world's cgroup, mounts, loop devices, the network and the state.

    Raises:
        WorldError: something is still in use, or still mounted, below the world's directory.
    """
    if world.rooted:
        _remove_containers(world.runc_root)
        _remove_cgroups(world.cgroup)
        _kill(_inside(world.namespaces))
        _unmount_below(world.state)
        _detach_loops(world.state)
        Network(world).down()
    _remove_directory(world.state)


def _remove_containers(root: Path) -> None:
    """Deletes every container that runc knows in that root, with its processes."""
    if not root.is_dir() or not shutil.which("runc"):
        return
    for container in sorted(path.name for path in root.iterdir() if path.is_dir()):
        # One that is half made cannot be deleted by runc; its processes are in the world's cgroup all the same.
        subprocess.run(
            ["runc", "--root", str(root), "delete", "--force", container], capture_output=True, check=False
        )


def _remove_cgroups(name: str) -> None:
    """Kills everything in the cgroup of that name in every hierarchy, then removes it."""
    tops = [path / name for path in (_CGROUPS, *_CGROUPS.glob("*")) if (path / name).is_dir()]
    groups = [group for top in tops for group in _deepest_first(top)]

    def missing() -> str | None:
        held = _members(groups)
        _kill(held)
        return f"processes {', '.join(map(str, sorted(held)))} do not end" if held else None

    until(missing, what=f"cgroup {name}", seconds=_GONE_AFTER)
    for group in groups:
        with contextlib.suppress(FileNotFoundError):
            group.rmdir()


def _deepest_first(top: Path) -> list[Path]:
    return [Path(directory) for directory, _, _ in os.walk(top, topdown=False)]


def _members(groups: Iterable[Path]) -> set[int]:
    members: set[int] = set()
    for group in groups:
        with contextlib.suppress(OSError):
            members |= {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
    return members


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _inside(namespaces: Path) -> Iterator[int]:
    """Processes in one of the world's network namespaces."""
    ours = {path.stat().st_ino for path in namespaces.glob("*")}
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if (entry / "ns/net").stat().st_ino in ours:
                    yield int(entry.name)


def mounts_below(directory: Path, mountinfo: str) -> list[Path]:
    """Mount points at or below the directory, the latest first; mountinfo writes blanks as octal numbers."""
    points = (line.split()[4].encode().decode("unicode_escape") for line in mountinfo.splitlines() if line)
    return [Path(point) for point in points if Path(point).is_relative_to(directory)][::-1]


def _unmount_below(directory: Path) -> None:
    for point in mounts_below(directory, (_PROC / "self/mountinfo").read_text()):
        subprocess.run(["umount", "--lazy", str(point)], capture_output=True, check=False)


def _detach_loops(directory: Path) -> None:
    """Detaches loop devices whose file is in the directory."""
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            # The kernel marks a file that was removed meanwhile.
            if Path(backing.read_text().strip().removesuffix(" (deleted)")).is_relative_to(directory):
                device = f"/dev/{backing.parent.parent.name}"
                subprocess.run(["losetup", "--detach", device], capture_output=True, check=False)


def _remove_directory(directory: Path) -> None:
    # Removing through a mount would remove what is mounted: the host's own /usr, on a machine's root.
    if mounted := mounts_below(directory, (_PROC / "self/mountinfo").read_text()):
        raise WorldError(f"{directory} is not removed: still mounted there: {', '.join(map(str, mounted))}")
    if directory.exists():
        shutil.rmtree(directory)
    with contextlib.suppress(OSError):  # other worlds are in it
        directory.parent.rmdir()
