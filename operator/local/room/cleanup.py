"""The end of a room: its daemon stopped and every trace of its machines removed, whatever was left by whom."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kip.local.room import machine, traces
from kip.local.world import World, WorldError, write_atomically

_PATIENCE = 10.0  # seconds that a killed daemon and its helpers may take to end
_AT_ONCE = 4


class RoomBusyError(WorldError):
    """Another room daemon of the same world runs."""


def lock_path(world: World) -> Path:
    """Held, as long as it lives, by the one room daemon of the world; its content is the daemon's process id."""
    return world.state / "room.lock"


def ready_path(world: World) -> Path:
    """Written when the room serves metadata and follows the EC2 endpoint, with its process id; a killed room leaves it."""
    return world.run / "room.ready"


def say_ready(world: World) -> None:
    """Tells that this process is the world's room, and ready."""
    write_atomically(ready_path(world), f"{os.getpid()}\n")


def said_ready(world: World) -> int | None:
    """The process that told so last, which may have been killed since; None if there is none."""
    try:
        return int(ready_path(world).read_text())
    except (FileNotFoundError, ValueError):
        return None


@contextlib.contextmanager
def only_room(world: World) -> Iterator[None]:
    """Holds the world's room lock. Raises RoomBusyError when another daemon has it."""
    world.run.mkdir(exist_ok=True)
    with lock_path(world).open("a+") as lock:
        if not _try_lock(lock.fileno()):
            raise RoomBusyError(
                f"a machine room of world {world.name!r} runs already: process {_holder(world)}"
            )
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        ready_path(world).unlink(missing_ok=True)
        try:
            yield
        finally:
            ready_path(world).unlink(missing_ok=True)


def cleanup_all(world: World) -> None:
    """Ends the world's room: stops its daemon if one runs, destroys every machine, removes what is left.

    Needs no daemon, and may be repeated. The world's network is left to its owner.

    Raises:
        WorldError: the daemon does not end, or something of a machine cannot be removed.
    """
    _stop_daemon(world)
    _wait_for_helpers(world)
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as threads:
        outcomes = [threads.submit(machine.destroy, world, name) for name in machine.present(world)]
    failures = [str(error) for outcome in outcomes if (error := outcome.exception())]
    if failures:
        raise WorldError("; ".join(failures))
    traces.remove_cgroups(world.cgroup)
    for directory in (world.cells, world.runc_root):
        with contextlib.suppress(FileNotFoundError):
            directory.rmdir()
    for file in (lock_path(world), ready_path(world)):
        file.unlink(missing_ok=True)


def _stop_daemon(world: World) -> None:
    with contextlib.suppress(FileNotFoundError), lock_path(world).open("r") as lock:
        deadline = time.monotonic() + _PATIENCE
        while not _try_lock(lock.fileno()):
            # Killed, not asked: it would finish boots that are removed right after.
            if pid := _holder(world):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise WorldError(
                    f"the machine room's daemon, process {pid}, does not end; it holds {lock.name}"
                )
            time.sleep(0.02)


def _wait_for_helpers(world: World) -> None:
    """Waits for the daemon's runc processes, which the kernel kills after it (see `machine`)."""
    deadline = time.monotonic() + _PATIENCE
    while helpers := _helpers(world):
        if time.monotonic() > deadline:
            raise WorldError(f"still at work on machines of {world.name!r}: processes {helpers}")
        time.sleep(0.02)


def _helpers(world: World) -> list[int]:
    mark = str(world.runc_root).encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(world: World) -> int:
    """The process that wrote its id into the lock; 0 if it has not yet."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return int(lock_path(world).read_text())
    return 0
