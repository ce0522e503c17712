"""What a machine leaves in the kernel, found and removed whatever state a crash left it in.

runc removes a machine that it knows. These functions rely on nothing that was noted anywhere: a machine's
processes are found by its cgroup, its mounts by their place below its directory, its loop devices by the file
behind them.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from kip.local.mounts import mounts


def cgroup_directories(name: str) -> list[Path]:
    """The directories of that cgroup in every hierarchy (v1 controllers, named ones, v2) that has it."""
    found = {hierarchy / name for hierarchy in _hierarchies() if (hierarchy / name).is_dir()}
    return sorted(found)


def _hierarchies() -> Iterator[Path]:
    for mount in mounts():
        if mount.file_system in {"cgroup", "cgroup2"}:
            yield mount.point


def processes(name: str) -> set[int]:
    """Ids of the processes in that cgroup and those below it."""
    found: set[int] = set()
    for directory in cgroup_directories(name):
        # A cgroup may go away while we look: os.walk passes over it, as does the reading.
        for path, _, _ in os.walk(directory):
            with contextlib.suppress(OSError):
                found.update(int(line) for line in (Path(path) / "cgroup.procs").read_text().split())
    return found - {0}


def kill(name: str) -> None:
    """Kills every process of that cgroup; does not wait for their end."""
    for pid in processes(name):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def remove_cgroups(name: str) -> None:
    """Removes that cgroup with all below it, as far as no process is in it."""
    for top in cgroup_directories(name):
        below = [Path(path) for path, _, _ in os.walk(top, topdown=False)]
        for directory in below:
            with contextlib.suppress(OSError):
                directory.rmdir()


def mounts_below(directory: Path) -> list[Path]:
    """Mount points at or below that directory, the deepest first; as often as something is mounted there."""
    # A mount that is not found is removed through: by whatever name the directory was called.
    canonical = directory.resolve()
    below = [mount.point for mount in mounts() if mount.point.is_relative_to(canonical)]
    return sorted(below, key=lambda point: len(point.parts), reverse=True)


def unmount_below(directory: Path) -> None:
    """Ends every mount at or below that directory."""
    for point in mounts_below(directory):
        _answer("umount", "--lazy", str(point))


def loop_devices_below(directory: Path) -> list[str]:
    """Loop devices whose file is below that directory; `losetup --detach` inside a machine may be forgotten.

    The name that the kernel keeps is the machine's, so the file is told by device and inode number.
    """
    fields = "NAME,BACK-INO,BACK-MAJ:MIN"
    listed = _answer("losetup", "--list", "--json", "--output", fields)
    if not listed.strip():
        return []
    # Of a file on a volume that is mounted no more, losetup knows no device.
    in_use = {
        (str(entry["back-ino"]), entry["back-maj:min"]): entry["name"]
        for entry in _devices(listed)
        if entry["back-maj:min"]
    }
    if not in_use or not directory.is_dir():
        return []
    device = directory.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    inodes = {inode for inode, where in in_use if where.strip() == number}
    if not inodes:
        return []
    expression = [word for inode in sorted(inodes) for word in ("-o", "-inum", inode)][1:]
    found = _answer(
        *["find", str(directory), "-xdev", "-type", "f", "(", *expression, ")", "-printf", "%i\\n"]
    ).split()
    return [name for (inode, where), name in in_use.items() if inode in found and where.strip() == number]


def _devices(listing: str) -> list[dict[str, str]]:
    """Those that have a file: losetup also shows one that is being detached, and knows nothing of it."""
    devices: list[dict[str, str]] = json.loads(listing)["loopdevices"]
    return [device for device in devices if device["back-ino"] and device["back-maj:min"]]


def detach_loops_below(directory: Path) -> None:
    """Detaches those loop devices."""
    for name in loop_devices_below(directory):
        _answer("losetup", "--detach", name)


def _answer(*command: str) -> str:
    """What the command prints, whether it succeeds or not; nothing where this host lacks the program.

    Without it nobody can have made here what it finds or removes. (Mounts are looked for again before files go.)
    """
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return ""
