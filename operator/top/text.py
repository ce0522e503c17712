"""The same for people, in columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kip.model.clock import age
from kip.top.rows import Row, Totals

_HEAD = ("NAMESPACE", "POD", "PHASE", "AGE", "INSTANCE-TYPE", "MARKET", "ZONE", "$/H", "COST", "CELL")
_RIGHT = frozenset({"AGE", "$/H", "COST"})
_UNKNOWN = "?"
_NONE = "-"


def table(found: Sequence[Row], *, wide: bool = False) -> list[str]:
    """A header and a line for each cell; `wide` adds node, instance and what is wrong."""
    head = (*_HEAD, "NODE", "INSTANCE-ID", "TROUBLE") if wide else _HEAD
    lines = [head, *((*_cells(r), *(_more(r) if wide else ())) for r in found)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return [
        "  ".join(
            text.rjust(width) if name in _RIGHT else text.ljust(width)
            for text, width, name in zip(line, widths, head, strict=True)
        ).rstrip()
        for line in lines
    ]


def summary(all_: Totals) -> str:
    """One line about all of them."""
    phases = ", ".join(f"{number} {phase}" for phase, number in sorted(all_.phases.items()))
    count = f"{all_.cells} cell{'' if all_.cells == 1 else 's'}"
    unknown = f" (without {all_.unpriced} of unknown price)" if all_.unpriced else ""
    money = f"${all_.usd_per_hour:.4f} an hour, ${all_.usd_so_far:.4f} so far{unknown}"
    return f"{count}{f' ({phases})' if phases else ''}; {money}"


def _cells(r: Row) -> Iterable[str]:
    return (
        r.namespace,
        r.pod,
        r.phase,
        age(r.age_s),
        r.instance_type or _NONE,
        r.market or _NONE,
        r.zone or _NONE,
        _usd(r.usd_per_hour, r),
        _usd(r.usd_so_far, r),
        r.cell,
    )


def _more(r: Row) -> Iterable[str]:
    return r.node, r.instance_id or _NONE, r.trouble or _NONE


def _usd(amount: float | None, r: Row) -> str:
    if amount is None:
        return _UNKNOWN if r.instance_id is not None else _NONE
    return f"{amount:.4f}"
