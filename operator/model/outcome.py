"""What a stage of a reconcile says when it returns: go on, wait, or stop."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Done:
    """The stage has nothing left to do; the next one may run."""


@dataclass(frozen=True)
class Wait:
    """Call again after `seconds`, or earlier if something happens to the object."""

    seconds: float
    reason: str = ""


@dataclass(frozen=True)
class Stop:
    """Nothing will change before the object itself does."""

    reason: str = ""


Outcome = Done | Wait | Stop
DONE = Done()
