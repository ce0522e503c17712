"""The instance types that AWS offers, as known when this version was made: no permission is needed to ask.

The tables in `data/` are made by `tools/make_catalogue.py`.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib.resources import files

from kip.model.instance_type import InstanceType


@cache
def load(region: str) -> tuple[InstanceType, ...]:
    """Every type that can be rented in the region, sorted by name. Costs some 30 ms the first time.

    A region newer than this version is no error: then every type there is, with prices unknown; AWS refuses those
    that the region lacks.
    """
    offered = {row["name"]: row["usd_per_hour"] for row in _rows("offerings") if row["region"] == region}
    if not offered:
        return tuple(_all_types().values())
    return tuple(
        replace(kind, usd_per_hour=_price(offered[name]))
        for name, kind in _all_types().items()
        if name in offered
    )


@cache
def _all_types() -> dict[str, InstanceType]:
    return {row["name"]: _to_type(row) for row in _rows("instance_types")}


def _rows(table: str) -> Iterator[dict[str, str]]:
    compressed = files("kip.cloud").joinpath("data", f"{table}.csv.gz").read_bytes()
    return csv.DictReader(gzip.decompress(compressed).decode().splitlines())


def _price(text: str) -> float | None:
    return float(text) if text else None


def _to_type(row: dict[str, str]) -> InstanceType:
    return InstanceType(
        name=row["name"],
        vcpus=int(row["vcpus"]),
        memory_mib=int(row["memory_mib"]),
        architecture=row["architecture"],
        gpus=int(row["gpus"]),
        gpu_name=row["gpu_name"],
        gpu_manufacturer=row["gpu_manufacturer"],
        gpu_memory_mib=int(row["gpu_memory_mib"]),
        burstable=row["burstable"] == "1",
        bare_metal=row["bare_metal"] == "1",
        current_generation=row["current_generation"] == "1",
        hypervisor=row["hypervisor"],
        spot=row["spot"] == "1",
        local_disk_gb=int(row["local_disk_gb"]),
        max_enis=int(row["max_enis"]),
        max_ipv4_per_eni=int(row["max_ipv4_per_eni"]),
    )
