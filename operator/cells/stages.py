"""What the stages of a cell's life share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from kip.cells.fleet import Fleet
from kip.cells.links import Links
from kip.cells.report import Reporter
from kip.cells.repository import Cells
from kip.cells.rest import Rests
from kip.cells.settings import CellSettings
from kip.model.cell import Cell
from kip.model.clock import Clock, from_rfc3339
from kip.model.outcome import Outcome

Pod = Mapping[str, Any]
Step = tuple[Cell, Outcome]
"""The cell as the stage leaves it, and whether the next stage may run."""

Stage = Callable[[Cell, Pod], Awaitable[Step]]


class CountLaunch(Protocol):
    """Hears of each offer that EC2 was asked for: `ok`, or `error` with the error's reason."""

    def __call__(self, *, result: str, reason: str = "") -> None: ...


def _uncounted(*, result: str, reason: str = "") -> None:
    pass


@dataclass(frozen=True)
class Tools:
    """What stages work with."""

    settings: CellSettings
    cells: Cells
    fleet: Fleet
    links: Links
    report: Reporter
    rests: Rests
    clock: Clock
    observe: Callable[[str, float], None]
    """(stage, seconds since the pod was created): feeds the histogram of start-up times."""
    count_launch: CountLaunch = _uncounted
    count_given_up: Callable[[str], None] = lambda reason: None
    """Hears why a machine was ended before its pod ran on it."""
    healthy_timeout_s: Callable[[Pod], float | None] = lambda pod: None
    """Seconds that the machine of a running pod may be out of reach; None is for ever."""


def since_created_s(pod: Pod, clock: Clock, at: datetime | None = None) -> float:
    """Seconds from the pod's creation to `at`, else now; creationTimestamp has whole seconds, so up to one too many."""
    return max(
        0.0, ((at or clock.now()) - from_rfc3339(pod["metadata"]["creationTimestamp"])).total_seconds()
    )
