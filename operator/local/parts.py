"""What a world consists of: parts that are started in the order of their needs, each with its own readiness."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence

from kip.local.build import Build
from kip.local.processes import Command, Processes
from kip.local.waiting import NotReadyError, until
from kip.local.world import World, WorldError


class Part(ABC):
    """One part of a world. Starting is idempotent: what is there and right is left alone."""

    name: str
    needs: tuple[str, ...] = ()  # names of parts that must be ready before this one starts
    builds: tuple[Build, ...] = ()  # programs that must have been compiled
    root_only = False  # cannot be there in a world of a user who is not root
    patience = 30.0  # seconds to become ready, with much to spare on a busy machine

    @abstractmethod
    def start(self) -> None:
        """Begins what makes the part ready; does not wait for it."""

    @abstractmethod
    def missing(self) -> str | None:
        """What is still missing for the part to be ready; None when it is ready."""

    def wait(self) -> None:
        """Returns when the part is ready. Raises NotReadyError."""
        until(self.missing, what=self.name, seconds=self.patience)


class ProcessPart(Part):
    """A part that is one process."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.processes = Processes(world)

    @abstractmethod
    def command(self) -> Command:
        """The process; named as the part is."""

    @abstractmethod
    def answer(self) -> str | None:
        """What its readiness says is still missing, None when ready. May raise OSError: it does not listen yet."""

    def start(self) -> None:
        """Starts the process unless it runs."""
        try:
            self.processes.start(self.command())
        except OSError as error:
            raise WorldError(f"{self.name} cannot be started: {error}") from error

    def missing(self) -> str | None:
        """Asks the process; one that ended is not waited for."""
        if not self.processes.running(self.name):
            return "not running"
        try:
            return self.answer()
        except OSError as error:
            return str(error)

    def wait(self) -> None:
        """Returns when the process is ready. Raises NotReadyError with the last lines of its log."""

        def missing() -> str | None:
            seen = self.missing()
            if seen == "not running":
                raise NotReadyError(f"{self.name} ended")
            return seen

        try:
            until(missing, what=self.name, seconds=self.patience)
        except NotReadyError as error:
            log = self.processes.log(self.name)
            lines = self.processes.last_lines(self.name) or ["(it printed nothing)"]
            raise NotReadyError("\n  ".join([f"{error}; last lines of {log}:", *lines])) from None


def choose(parts: Sequence[Part], wanted: Collection[str] | None, without: Collection[str]) -> list[Part]:
    """The parts to start, in order: those wanted (None: all) with what they need, less `without`.

    A part that needs one of `without` is left out with it.

    Raises:
        WorldError: a name that no part has, or one both wanted and left out.
    """
    known = {part.name: part for part in parts}
    for name in (*(wanted or ()), *without):
        if name not in known:
            raise WorldError(f"no part is called {name!r}; the parts are {', '.join(known)}")
    left_out = _closed(without, lambda name: [part.name for part in parts if name in part.needs])
    if both := left_out & set(wanted or ()):
        raise WorldError(f"{', '.join(sorted(both))} cannot be started without {', '.join(sorted(without))}")
    chosen = _closed(
        known if wanted is None else wanted, lambda name: known[name].needs if name in known else ()
    )
    return in_order([part for part in parts if part.name in chosen - left_out])


def _closed(names: Iterable[str], next_of: Callable[[str], Iterable[str]]) -> set[str]:
    """The names and all that follow from them."""
    found: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending.extend(next_of(name))
    return found


def in_order(parts: Sequence[Part]) -> list[Part]:
    """Each after what it needs, as early as the given order allows. Raises WorldError for a circle."""
    ordered: list[Part] = []
    remaining = list(parts)
    present = {part.name for part in parts}
    while remaining:
        done = {part.name for part in ordered}
        ready = next((part for part in remaining if present & set(part.needs) <= done), None)
        if ready is None:
            raise WorldError(f"these parts need each other: {', '.join(part.name for part in remaining)}")
        ordered.append(ready)
        remaining.remove(ready)
    return ordered
