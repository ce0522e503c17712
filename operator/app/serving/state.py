"""What is known of one virtual node while it is served, and what there is to do for it."""

from __future__ import annotations

from collections.abc import Callable

from kip.app.serving.side import Loops
from kip.app.serving.surroundings import Surroundings
from kip.cells.queue import WorkQueue
from kip.cells.repository import Cells
from kip.cells.spending import Spending
from kip.kube.events import EventRecorder, Limit
from kip.kube.fence import FencedClient
from kip.kube.store import PodStore
from kip.metering.use import Use
from kip.model.background import Background
from kip.model.cell import Cell

# They repeat what the pods' events say, for those who look at Cells: of a thousand at once not all are wanted.
_CELL_EVENTS = Limit(burst=100, per_second=2.0)


class NodeState:
    """What all sides of the served node work on."""

    def __init__(self, around: Surroundings, node_name: str, may_write: Callable[[], bool]) -> None:
        clock = around.clock
        self.node_name = node_name
        self.may_write = may_write
        self.client = FencedClient(around.client, may_write)
        self.pods = PodStore()
        self.spending = Spending(clock, around.metrics.spent)
        self.use = Use(clock)
        self.cells = Cells(self.client, node_name, seen=self._cell_seen, gone=self._cell_gone)
        self.queue = WorkQueue(clock, on_result=around.metrics.reconciled)
        self.events = EventRecorder(self.client, clock, component="kip", host=node_name)
        self.cell_events = EventRecorder(
            self.client, clock, component="kip", host=node_name, limit=_CELL_EVENTS
        )
        self.background = Background()

    def loops(self) -> Loops:
        return {"events": self.events.run(), "events on cells": self.cell_events.run()}

    def close(self) -> None:
        """What was spent until now counts; nothing goes on in the background."""
        self.spending.settle()
        self.background.cancel()

    def _cell_seen(self, cell: Cell) -> None:
        self.spending.see(cell)
        self.use.see(cell)

    def _cell_gone(self, cell: Cell) -> None:
        self.spending.gone(cell)
        self.use.gone(cell)
