"""For how long one node's cells have had a machine."""

from __future__ import annotations

from datetime import datetime

from kip.model.cell import Cell
from kip.model.clock import Clock


class Use:
    """Remembers machines that ended, until their time is written down; those that run are looked up."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._running: dict[str, tuple[str, datetime]] = {}
        """By Cell: its instance, and since when."""
        self._ended: list[tuple[datetime, datetime]] = []

    def see(self, cell: Cell) -> None:
        """A Cell as it is now."""
        running = self._running.get(cell.uid)
        if running is not None and running[0] != cell.instance_id:
            self.gone(cell)
            running = None
        if running is None and cell.instance_id is not None:
            self._running[cell.uid] = (cell.instance_id, cell.launched_at or self._clock.now())

    def gone(self, cell: Cell) -> None:
        """The Cell or its machine is no more."""
        running = self._running.pop(cell.uid, None)
        if running is not None:
            self._ended.append((running[1], self._clock.now()))

    def between(self, start: datetime, end: datetime) -> float:
        """Seconds of all cells together."""
        running = ((since, end) for _, since in self._running.values())
        return sum(_overlap(begun, ended, start, end) for begun, ended in (*self._ended, *running))

    def forget(self, until: datetime) -> None:
        """What ended before is written down."""
        self._ended = [(begun, ended) for begun, ended in self._ended if ended > until]


def _overlap(begun: datetime, ended: datetime, start: datetime, end: datetime) -> float:
    return max(0.0, (min(ended, end) - max(begun, start)).total_seconds())
