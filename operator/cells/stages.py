"""What the stages of a cell's life share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

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
    healthy_timeout_s: Callable[[Pod], float | None] = lambda pod: None
    """Seconds that the machine of a running pod may be out of reach; None is for ever."""


def since_created_s(pod: Pod, clock: Clock) -> float:
    """Seconds since the pod was created; creationTimestamp has whole seconds, so up to one too many."""
    return max(0.0, (clock.now() - from_rfc3339(pod["metadata"]["creationTimestamp"])).total_seconds())
