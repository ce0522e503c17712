"""What this node's cells cost, told while they run and to the second when they end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from kip.model.cell import Cell
from kip.model.clock import Clock
from kip.model.cost import cost_usd


@dataclass
class _Meter:
    """One cell's instance, of a known price."""

    instance_id: str
    namespace: str
    usd_per_hour: float
    since: datetime
    told_usd: float


class Spending:
    """Adds up list prices by namespace.

    Each dollar is told once, whoever serves the node: what an instance had cost before this process came was told by the
    one before it.
    """

    def __init__(self, clock: Clock, tell: Callable[[str, float], None]) -> None:
        """`tell(namespace, usd)` hears of what was spent since it was last called."""
        self._clock = clock
        self._tell = tell
        self._began = clock.now()
        self._meters: dict[str, _Meter] = {}

    def see(self, cell: Cell) -> None:
        """A Cell as it is now: its instance may be new, or given up."""
        meter = self._meters.get(cell.uid)
        if meter is not None and meter.instance_id != cell.instance_id:
            self.gone(cell)
            meter = None
        if meter is None and cell.instance_id is not None and cell.price is not None:
            self._meters[cell.uid] = self._new(cell, cell.instance_id, float(cell.price))

    def gone(self, cell: Cell) -> None:
        """The Cell or its instance is no more."""
        meter = self._meters.pop(cell.uid, None)
        if meter is not None:
            self._settle(meter)

    def settle(self) -> None:
        """Tell what has been spent up to now."""
        for meter in self._meters.values():
            self._settle(meter)

    def usd_per_hour(self) -> Mapping[str, float]:
        """What runs now, by namespace."""
        total: defaultdict[str, float] = defaultdict(float)
        for meter in self._meters.values():
            total[meter.namespace] += meter.usd_per_hour
        return total

    def _new(self, cell: Cell, instance_id: str, usd_per_hour: float) -> _Meter:
        since = cell.launched_at or self._clock.now()
        told = cost_usd(usd_per_hour, since, self._began) if since < self._began else 0.0
        return _Meter(instance_id, cell.pod_namespace, usd_per_hour, since, told)

    def _settle(self, meter: _Meter) -> None:
        cost = cost_usd(meter.usd_per_hour, meter.since, self._clock.now())
        # A wall clock can be set back; what was told stays.
        if cost > meter.told_usd:
            self._tell(meter.namespace, cost - meter.told_usd)
            meter.told_usd = cost
