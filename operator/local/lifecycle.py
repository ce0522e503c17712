"""Bringing a world up, taking it down, and saying how it is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kip.local import build, leftovers, packages
from kip.local.cluster import Access, Cluster
from kip.local.controlplane import control_plane
from kip.local.dns import Dns
from kip.local.parts import Part, choose
from kip.local.processes import Processes, stop_all
from kip.local.progress import Progress, Silent
from kip.local.services import Aws, Images, NetworkPart, Operator, Registry, Room
from kip.local.waiting import until
from kip.local.world import DEFAULT_NAME, World, WorldError

_ORPHANS = 3.0  # seconds that a crashed run's processes may take together
_LAST_WORDS = 0.2  # seconds when the world goes: nothing that a process could still save is kept
_ALL_ENDED = 30.0  # seconds until no process starts another any more; usually the first look finds all


@dataclass(frozen=True)
class PartStatus:
    """How one part is: ready when nothing is missing."""

    name: str
    started: bool
    pid: int | None
    missing: str | None


def all_parts(world: World) -> list[Part]:
    """Every part that this world can have, those that can start at once first."""
    parts: list[Part] = [NetworkPart(world), Aws(world), Registry(world), *control_plane(world)]
    parts += [Dns(world), Access(world), Cluster(world), Images(world), Room(world), Operator(world)]
    return [part for part in parts if world.rooted or not part.root_only]


def up(
    name: str = DEFAULT_NAME,
    progress: Progress | None = None,
    *,
    only: Collection[str] | None = None,
    without: Collection[str] = (),
) -> World:
    """Makes the world be up: starts what is not there, repairs what died, leaves alone what runs.

    `only` names the parts wanted (what they need comes with them), `without` those not wanted.

    Raises:
        WorldError: a part cannot be had here or did not become ready.
        BuildError: a program cannot be compiled.
    """
    shown = progress or Silent()
    if found := World.find(name):
        _check_user(found)
    world = World.open(name)
    with world.exclusively(shown.step):
        world.save()  # a `down` may have come between opening and holding it
        parts = choose(all_parts(world), only, without)
        _prepare(world, parts, shown)
        stop_all(Processes(world).orphans(), _ORPHANS)
        _start(parts, shown)
    return world


def _check_user(world: World) -> None:
    if world.rooted and os.geteuid() != 0:
        raise WorldError(
            f"world {world.name!r} in {world.state} was made by root, and only root can change it"
        )


def _prepare(world: World, parts: Sequence[Part], progress: Progress) -> None:
    """Packages and programs, before anything is started."""
    names = {part.name for part in parts}
    if "network" in names:
        packages.ensure(packages.NETWORK_PACKAGES, progress)
    if "room" in names:
        packages.ensure(packages.ROOM_PACKAGES, progress)
    for needed in dict.fromkeys(needed for part in parts for needed in part.builds):
        build.ensure(needed, progress)


def _start(parts: Sequence[Part], progress: Progress) -> None:
    """Starts each part as soon as what it needs is ready: what does not wait for each other starts together."""
    waiting = {part.name: part for part in parts}

    def settle(name: str) -> None:
        if part := waiting.pop(name, None):
            with progress.step(part.name):
                part.wait()

    for part in parts:
        for need in part.needs:
            settle(need)
        part.start()
    for part in parts:
        settle(part.name)


def down(name: str = DEFAULT_NAME, progress: Progress | None = None) -> bool:
    """Ends the world and removes every trace of it, its record lost or not. Returns False when there was none.

    Raises:
        WorldError: something does not end or is still in use.
    """
    shown = progress or Silent()
    world = _recorded_or_not(name)
    _check_user(world)
    processes = Processes(world)
    if not (world.state.exists() or processes.all()):
        return False
    with world.exclusively(shown.step):
        with shown.step("end all processes"):
            _end_all(processes)
        with shown.step(f"remove {world.state}"):
            leftovers.remove(world)
    return True


def _end_all(processes: Processes) -> None:
    """Ends the world's processes until there are none: one of them may just have started another."""

    def missing() -> str | None:
        left = processes.all()
        stop_all(left, _LAST_WORDS)
        return (
            f"there were still processes {', '.join(str(process.pid) for process in left)}" if left else None
        )

    until(missing, what="the end of all processes", seconds=_ALL_ENDED)


def _recorded_or_not(name: str) -> World:
    """The world of that name; where its record is lost or damaged, what can be said of it without."""
    with contextlib.suppress(WorldError):
        if world := World.find(name):
            return world
    return World.unrecorded(name)


def status(world: World) -> list[PartStatus]:
    """How each part of the world is, parts that were never started included."""
    processes = Processes(world)
    found = []
    for part in all_parts(world):
        process = processes.running(part.name)
        try:
            missing = part.missing()
        except (OSError, WorldError) as error:
            missing = str(error)
        started = processes.was_started(part.name) or missing is None
        found.append(PartStatus(part.name, started, process.pid if process else None, missing))
    return found
