"""Looking at a world's shared volume, and making it slow, narrow or unreachable."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kip.local.world import World, write_atomically


@dataclass(frozen=True)
class Shape:
    """What stands between the machines and the volume; none of it changes what is on the volume."""

    latency_ms: float = 0.0
    """Of each call."""
    mib_per_s: float = 0.0
    """Of each machine; 0 is no limit."""
    unreachable: bool = False
    """Calls, also those that mount it, wait until it is reachable again."""
    broken: bool = False
    """Calls fail with an input/output error."""


@dataclass(frozen=True)
class Reads:
    """What one machine has asked of the volume since it mounted it."""

    bytes: int = 0
    calls: int = 0


def make(world: World) -> None:
    """Makes the empty volume; one that is there is left alone."""
    for directory in (files(world), world.volume / "reads"):
        directory.mkdir(parents=True, exist_ok=True)


def files(world: World) -> Path:
    """The top of the volume; the host may read and write there as somebody who has mounted it elsewhere."""
    return world.volume / "files"


def shape(world: World, wanted: Shape = Shape()) -> None:
    """Makes the volume behave so, within a hundredth of a second and for all machines."""
    fields = {
        "latencyMs": wanted.latency_ms,
        "mibPerS": wanted.mib_per_s,
        "unreachable": wanted.unreachable,
        "broken": wanted.broken,
    }
    write_atomically(world.volume / "shape.json", json.dumps(fields))


def reads(world: World, hostname: str) -> Reads:
    """What the machine of that name has read, as of a tenth of a second ago."""
    with suppress(FileNotFoundError):
        return Reads(**json.loads((world.volume / "reads" / f"{hostname}.json").read_text()))
    return Reads()


def detach_loops(world: World) -> None:
    """Detaches loop devices of the volume's layers that a machine has left which was killed while it mounted them.

    The kernel tells nothing of such a file but its path as the machine saw it. A device in use stays until it is not.
    """
    command = ("losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE")
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return
    ours = {path.name for path in files(world).glob("layers/*/*/*.squashfs")}
    for line in listed.splitlines():
        name, _, path = line.partition(" ")
        if path.strip().rpartition("/")[2] in ours:
            subprocess.run(("losetup", "--detach", name), capture_output=True, check=False)
