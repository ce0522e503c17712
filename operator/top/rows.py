"""What is said of each cell, and of all of them together: pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from kip.model.cell import Cell, Phase
from kip.model.cost import cost_usd

Order = Literal["cost", "price", "age", "namespace", "phase"]
ORDERS: tuple[Order, ...] = ("cost", "price", "age", "namespace", "phase")


@dataclass(frozen=True)
class Row:
    """One cell. What is not known is None; money in US dollars by list price."""

    cell: str
    namespace: str
    pod: str
    node: str
    phase: Phase
    age_s: float
    instance_id: str | None
    instance_type: str | None
    market: str | None
    zone: str | None
    usd_per_hour: float | None
    usd_so_far: float | None
    """Of the present instance, since its launch."""
    trouble: str
    """What keeps the cell from being well; empty if nothing does."""


@dataclass(frozen=True)
class Totals:
    """All cells together."""

    cells: int
    phases: Mapping[Phase, int]
    usd_per_hour: float
    usd_so_far: float
    unpriced: int
    """Instances whose price is not known: they are in neither sum."""


def row(cell: Cell, now: datetime) -> Row:
    """What there is to say of this cell."""
    price = float(cell.price) if cell.price is not None and cell.instance_id is not None else None
    since = cell.launched_at
    return Row(
        cell=cell.name,
        namespace=cell.pod_namespace,
        pod=cell.pod_name,
        node=cell.node,
        phase=cell.phase,
        age_s=max(0.0, (now - cell.created).total_seconds()),
        instance_id=cell.instance_id,
        instance_type=cell.instance_type,
        market=cell.market,
        zone=cell.zone,
        usd_per_hour=price,
        usd_so_far=cost_usd(price, since, now) if price is not None and since is not None else None,
        trouble=_trouble(cell),
    )


def rows(
    objects: Iterable[Mapping[str, Any]],
    now: datetime,
    *,
    namespace: str | None = None,
    order: Order = "cost",
) -> list[Row]:
    """The cells among these objects, of one namespace or all. One that cannot be read is left out."""
    found = [row(cell, now) for cell in map(_read, objects) if cell is not None]
    return sorted((r for r in found if namespace in (None, r.namespace)), key=lambda r: _key(r, order))


def totals(found: Iterable[Row]) -> Totals:
    """Their sum."""
    found = list(found)
    return Totals(
        cells=len(found),
        phases=dict(Counter(r.phase for r in found)),
        usd_per_hour=sum(r.usd_per_hour or 0.0 for r in found),
        usd_so_far=sum(r.usd_so_far or 0.0 for r in found),
        unpriced=sum(r.instance_id is not None and r.usd_per_hour is None for r in found),
    )


def _read(obj: Mapping[str, Any]) -> Cell | None:
    try:
        return Cell.from_object(obj)
    except (KeyError, TypeError, ValueError):
        return None


def _key(r: Row, order: Order) -> tuple[Any, ...]:
    """The dearest, the oldest first; what is equal by name, so that lines keep their place."""
    name = (r.namespace, r.pod, r.cell)
    match order:
        case "cost":
            return (-(r.usd_so_far or 0.0), *name)
        case "price":
            return (-(r.usd_per_hour or 0.0), *name)
        case "age":
            return (-r.age_s, *name)
        case "phase":
            return (r.phase, *name)
        case "namespace":
            return name


def _trouble(cell: Cell) -> str:
    """The newest condition that is not as it should be; Ready only repeats another one."""
    bad = [c for c in cell.conditions.items if c.type != "Ready" and not c.is_true]
    newest = max(bad, key=lambda c: c.last_transition, default=None)
    return f"{newest.reason}: {newest.message}" if newest is not None else ""
