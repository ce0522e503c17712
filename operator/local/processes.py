"""Processes that outlive the command that started them, and are found again whatever was lost.

Every process of a world carries the world's marks in its environment, which its children inherit: so all of them
are found through /proc even when a record is gone. A record (`<run>/<name>.json`) holds the process id together
with its start time, so that a recycled id is never taken for, and never killed as, the process it once was.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kip.local.world import World, write_atomically

NAME_MARK = "KIP_LOCAL_WORLD"
STATE_MARK = "KIP_LOCAL_STATE"

_PROC = Path("/proc")
_KILL_WAIT = 5.0  # seconds that the kernel may take to end a killed process


@dataclass(frozen=True)
class Command:
    """What to run: `argv[0]` is a path or a program on the PATH; `environment` is added to ours."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Process:
    """A process, told apart from a later one with the same id by its start (clock ticks after boot)."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has this id now; None when there is none, or only its exit status is left."""
        try:
            # The program's name, in parentheses, may hold spaces and parentheses: count from the last one.
            fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return Process.of(self.pid) == self

    def environment(self) -> dict[str, str]:
        """The environment it was started with; empty when it ended or is not ours to read."""
        try:
            entries = (_PROC / str(self.pid) / "environ").read_bytes().split(b"\0")
        except OSError:
            return {}
        pairs = (entry.decode(errors="replace").partition("=") for entry in entries if entry)
        return {key: value for key, _, value in pairs}

    @contextlib.contextmanager
    def _handle(self) -> Iterator[int | None]:
        """A descriptor that stays this process's whatever happens to its id; None when it has ended."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            yield None
            return
        try:
            yield handle if self.alive else None
        finally:
            os.close(handle)

    def stop(self, grace: float) -> bool:
        """Ends the process: SIGTERM, after `grace` seconds SIGKILL. Returns whether SIGTERM was enough.

        Raises:
            TimeoutError: it did not even end when killed.
        """
        with self._handle() as handle:
            if handle is None:
                return True
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGTERM)
            in_time = _ends(handle, grace)
            if not in_time:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                if not _ends(handle, _KILL_WAIT):
                    raise TimeoutError(f"process {self.pid} still runs {_KILL_WAIT:.0f} s after SIGKILL")
        _reap(self.pid)
        return in_time


def _ends(handle: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _reap(pid: int) -> None:
    """Takes the exit status of a child of ours; of other processes init takes it."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


class Processes:
    """The processes of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._marks = {NAME_MARK: world.name, STATE_MARK: str(world.state.parent)}

    def start(self, command: Command) -> Process:
        """Starts the command in a session of its own, its output appended to its log.

        One that runs already with the same command line is left alone; with another it is replaced.

        Raises:
            OSError: the program cannot be started.
        """
        kept = self._record(command.name)
        running = self.running(command.name)
        if (
            running
            and kept.get("argv") == list(command.argv)
            and kept.get("environment") == {**command.environment}
        ):
            return running
        if running:
            running.stop(grace=10)
        self._world.run.mkdir(parents=True, exist_ok=True)
        log = self.log(command.name)
        begin = log.stat().st_size if log.exists() else 0
        process = self._spawned(self._spawn(command, log))
        record = {
            "pid": process.pid,
            "started": process.started,
            "argv": command.argv,
            "environment": {**command.environment},
            "log_begin": begin,
        }
        write_atomically(self._record_path(command.name), json.dumps(record) + "\n")
        return process

    def _spawn(self, command: Command, log: Path) -> int:
        log.parent.mkdir(parents=True, exist_ok=True)
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        return os.posix_spawnp(
            command.argv[0],
            command.argv,
            {**os.environ, **command.environment, **self._marks},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            # Python ignores these, and what is ignored stays ignored in a new program.
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )

    def _spawned(self, pid: int) -> Process:
        """The process just spawned. The kernel lets us go on a moment before its new environment is in place."""
        process = Process.of(pid)
        while process and process.alive and not self._is_ours(process):
            time.sleep(0.001)
        return process or Process(pid, 0)

    def running(self, name: str) -> Process | None:
        """The process started under that name, if it runs."""
        kept = self._record(name)
        if not kept:
            return None
        _reap(kept["pid"])
        process = Process(kept["pid"], kept["started"])
        # After a reboot the same id and start time may be another process's: the mark is not.
        return process if process.alive and self._is_ours(process) else None

    def was_started(self, name: str) -> bool:
        """Whether a process of that name was started and not stopped since, be it running or not."""
        return self._record_path(name).exists()

    def stop(self, name: str, grace: float = 10.0) -> None:
        """Ends the process of that name, if it runs, and forgets it. `grace` in seconds, then it is killed."""
        if process := self.running(name):
            process.stop(grace)
        self._record_path(name).unlink(missing_ok=True)

    def all(self) -> list[Process]:
        """Every process of the world, recorded or not, but this one and those that it descends from."""
        spared = set(_ancestors(os.getpid()))
        return [
            process for process in _every_process() if process.pid not in spared and self._is_ours(process)
        ]

    def orphans(self) -> list[Process]:
        """Processes of the world that no recorded, running process started: a crashed run's."""
        recorded = (self.running(path.stem) for path in self._world.run.glob("*.json"))
        known = {process.pid for process in recorded if process}
        return [process for process in self.all() if known.isdisjoint(_ancestors(process.pid))]

    def log(self, name: str) -> Path:
        """The file that holds what processes of that name printed."""
        return self._world.logs / f"{name}.log"

    def last_lines(self, name: str, count: int = 15) -> list[str]:
        """The last lines that the process of that name printed since it was started."""
        try:
            with self.log(name).open("rb") as log:
                log.seek(self._record(name).get("log_begin", 0))
                return log.read().decode(errors="replace").splitlines()[-count:]
        except FileNotFoundError:
            return []

    def _is_ours(self, process: Process) -> bool:
        environment = process.environment()
        return all(environment.get(key) == value for key, value in self._marks.items())

    def _record_path(self, name: str) -> Path:
        return self._world.run / f"{name}.json"

    def _record(self, name: str) -> dict[str, Any]:
        try:
            record = json.loads(self._record_path(name).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}


def stop_all(processes: Iterable[Process], grace: float) -> None:
    """Ends them together: SIGTERM to all, SIGKILL to those left after `grace` seconds in all."""
    remaining = list(processes)
    for process in remaining:
        with process._handle() as handle:
            if handle is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, signal.SIGTERM)
    deadline = time.monotonic() + grace
    for process in remaining:
        process.stop(max(0.0, deadline - time.monotonic()))


def _every_process() -> Iterator[Process]:
    for entry in _PROC.iterdir():
        if entry.name.isdecimal() and (process := Process.of(int(entry.name))):
            yield process


def _ancestors(pid: int) -> Iterator[int]:
    while pid:
        yield pid
        try:
            pid = int((_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            return
