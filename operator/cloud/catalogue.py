"""The instance types that AWS offers, as known when this version was made: no permission is needed to ask.

The tables in `data/` are made by `tools/make_catalogue.py` (`make catalogue`). What EC2 says at run time, or a file of
one's own (`kip.cloud.instance_data`), goes on top.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, replace
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Any

from kip.model.burstable import baseline_per_mille
from kip.model.instance_type import InstanceType

# A price and zones belong to a region; a baseline follows from the name.
_ELSEWHERE = frozenset({"usd_per_hour", "zone_ids", "baseline_per_mille"})
#: Of the table of types.
COLUMNS = tuple(field.name for field in fields(InstanceType) if field.name not in _ELSEWHERE)
_READERS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "bool": lambda text: text == "1",
    "int | None": lambda text: int(text) if text else None,
}


@cache
def load(region: str) -> tuple[InstanceType, ...]:
    """Every type that can be rented in the region, sorted by name. Costs some 30 ms the first time.

    A region newer than this version is no error: then every type there is, with prices and zones unknown; AWS refuses
    those that the region lacks.
    """
    offered = _offered(region)
    if not offered:
        return everything()
    prefix = _regions().get(region, {}).get("zone_prefix", "")
    return tuple(
        replace(kind, usd_per_hour=_price(offered[name][0]), zone_ids=_zone_ids(prefix, offered[name][1]))
        for name, kind in _all_types().items()
        if name in offered
    )


def completed(types: Iterable[InstanceType], region: str) -> tuple[InstanceType, ...]:
    """Types as EC2 describes them, with what it does not say and this catalogue knows of the region: price and zones."""
    known = {kind.name: kind for kind in load(region)}
    return tuple(
        replace(kind, usd_per_hour=known[kind.name].usd_per_hour, zone_ids=known[kind.name].zone_ids)
        if kind.name in known
        else kind
        for kind in types
    )


def everything() -> tuple[InstanceType, ...]:
    """Every type of all regions together, without prices and zones."""
    return tuple(_all_types().values())


def regions() -> tuple[str, ...]:
    """The regions that are known."""
    return tuple(_regions())


def usual_zones(region: str) -> tuple[str, ...]:
    """Names of the zones that accounts usually see in the region; none if it is not known."""
    return tuple(region + letter for letter in _regions().get(region, {}).get("zone_letters", ""))


def prices_as_of(region: str) -> date | None:
    """The day of the price list; None without prices."""
    text = _regions().get(region, {}).get("prices_as_of", "")
    return date.fromisoformat(text) if text else None


def offered_by_zone(
    types: tuple[InstanceType, ...], zone_ids: Mapping[str, str]
) -> dict[str, frozenset[str]]:
    """Zone → the types that it has, for those zones (name → id) of which that is known.

    Only the id (`use1-az4`) says which zone it is: AWS gives the names `us-east-1a`… out differently in each account.
    """
    known = frozenset().union(*(kind.zone_ids or () for kind in types))
    return {
        zone: frozenset(kind.name for kind in types if kind.zone_ids is None or zone_id in kind.zone_ids)
        for zone, zone_id in zone_ids.items()
        if zone_id in known
    }


def to_row(kind: InstanceType) -> tuple[object, ...]:
    """A line of the table of types, in the order of `COLUMNS`."""
    values = (getattr(kind, column) for column in COLUMNS)
    return tuple(
        int(value) if isinstance(value, bool) else "" if value is None else value for value in values
    )


def _offered(region: str) -> dict[str, tuple[str, str]]:
    """Name of a type → its price and zones, as written in the table."""
    lines = (line for line in _text("offerings").splitlines() if line.startswith(f"{region},"))
    return {name: (price, zones) for _, name, price, zones in csv.reader(lines)}


@cache
def _all_types() -> dict[str, InstanceType]:
    types = {field.name: _READERS[str(field.type)] for field in fields(InstanceType) if field.name in COLUMNS}
    return {row["name"]: _to_type(row, types) for row in _rows("instance_types")}


@cache
def _regions() -> dict[str, dict[str, str]]:
    return {row["region"]: row for row in _rows("regions")}


def _rows(table: str) -> Iterator[dict[str, str]]:
    return csv.DictReader(_text(table).splitlines())


def _text(table: str) -> str:
    return gzip.decompress(files("kip.cloud").joinpath("data", f"{table}.csv.gz").read_bytes()).decode()


def _price(text: str) -> float | None:
    return float(text) if text else None


def _zone_ids(prefix: str, digits: str) -> frozenset[str] | None:
    return frozenset(prefix + digit for digit in digits) if digits else None


def _to_type(row: Mapping[str, str], readers: Mapping[str, Callable[[str], Any]]) -> InstanceType:
    kind = InstanceType(**{name: read(row[name]) for name, read in readers.items()})
    if not kind.burstable:
        return kind
    return replace(kind, baseline_per_mille=baseline_per_mille(kind.family, kind.size, kind.vcpus))
