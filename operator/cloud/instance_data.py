"""Instance data of one's own (`cells.instanceData`): prices and types that go on top of the catalogue.

The format is that of the first Kip's `--instance-data-path`, and more: a mapping of regions (or `*` for all) to lists
of entries, as YAML or JSON. An entry for a known type changes what it names; one for an unknown type adds it.
docs/choosing-instances.md shows it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from kip.cloud import catalogue
from kip.config import source
from kip.config.problems import ConfigError, KeyPath, Problem, explain
from kip.config.schema.instance_types import InstanceTypeName
from kip.config.schema.section import Section
from kip.config.types import Flag, parsed, whole_number
from kip.model import quantity
from kip.model.instance_type import InstanceType
from kip.model.market import ANY_ZONE, NOTHING_KNOWN, MarketData

#: In the place of a region: all of them.
EVERYWHERE = "*"
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]+", re.ASCII)
# What an added type is believed to have when its entry does not say it: the least that a cell needs.
_ENIS, _ADDRESSES = 2, 2


def _positive(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
        raise ValueError(value)
    return float(value)


def _price(value: Any) -> float:
    """0 is how the first Kip wrote that there is none."""
    return 0.0 if value == 0 and not isinstance(value, bool) else _positive(value)


def _spot_price(value: Any) -> Mapping[str, float]:
    if isinstance(value, Mapping):
        return {str(zone): _price(price) for zone, price in value.items()}
    return {ANY_ZONE: _price(value)}


def _memory_mib(value: Any) -> int:
    """A number is GiB, as the first Kip had it."""
    if isinstance(value, str):
        return quantity.whole(value) // quantity.MIB or int(_positive(0))
    return int(_positive(value) * 1024)


def _gpu_types(value: Any) -> Mapping[str, int]:
    return {str(name): int(_positive(count)) for name, count in value.items()}


class Entry(Section):
    """One instance type; what is not given stays as it is known."""

    instance_type: Annotated[InstanceTypeName, Field()]
    cpu: Annotated[int | None, whole_number(at_least=1)] = None
    memory_mib: Annotated[
        int | None,
        parsed(_memory_mib, "GiB as a number, or a size like 16Gi"),
        Field(alias="memory"),
    ] = None
    architecture: Literal["amd64", "arm64"] | None = None
    price: Annotated[float | None, parsed(_price, "US dollars an hour as a number")] = None
    spot_price: Annotated[
        Mapping[str, float], parsed(_spot_price, "US dollars an hour as a number, or zones with such numbers")
    ] = {}
    dedicated_price: Annotated[float | None, parsed(_price, "US dollars an hour as a number")] = None
    gpu: Annotated[int | None, whole_number(at_least=0)] = None
    gpu_type: Annotated[str | None, parsed(str, "the name of a GPU like A10G")] = None
    gpu_memory_mib: Annotated[
        int | None, parsed(_memory_mib, "GiB as a number, or a size like 24Gi"), Field(alias="gpuMemory")
    ] = None
    supported_gpu_types: Annotated[
        Mapping[str, int],
        parsed(_gpu_types, "names of GPUs with their number, like {T4: 1}"),
        Field(alias="supportedGPUTypes"),
    ] = {}
    burstable: Flag | None = None
    baseline: Annotated[float | None, parsed(_price, "CPUs that it gives for ever, as a number")] = None
    generation: Literal["current", "previous"] | None = None
    offered: Flag = True


@dataclass(frozen=True)
class InstanceData:
    """The entries that hold for one region."""

    entries: tuple[Entry, ...] = ()
    shapes: Mapping[str, InstanceType] = field(default_factory=dict)
    """Types that are known in any region, for entries that add one to this."""

    def types(self, known: Iterable[InstanceType]) -> tuple[InstanceType, ...]:
        """The catalogue with these entries on top, sorted by name."""
        found = {kind.name: kind for kind in known}
        for entry in self.entries:
            name = entry.instance_type
            if entry.offered:
                found[name] = _changed(found.get(name) or self.shapes.get(name) or _unknown(entry), entry)
            else:
                found.pop(name, None)
        return tuple(found[name] for name in sorted(found))

    def market(self, known: MarketData = NOTHING_KNOWN) -> MarketData:
        """What is known of the market, with these prices on top."""
        # A price for all zones also replaces those of single zones.
        everywhere = {entry.instance_type for entry in self.entries if entry.spot_price.get(ANY_ZONE)}
        spot = {offer: price for offer, price in known.spot.items() if offer[0] not in everywhere}
        for entry in self.entries:
            given = {(entry.instance_type, zone): price for zone, price in entry.spot_price.items() if price}
            spot.update(given)
        priced = {entry.instance_type for entry in self.entries if entry.price}
        on_demand = {name: price for name, price in known.on_demand.items() if name not in priced}
        own_hardware = {e.instance_type: e.dedicated_price for e in self.entries if e.dedicated_price}
        return replace(known, spot=spot, on_demand=on_demand, dedicated={**known.dedicated, **own_hardware})


def of(path: Path | None, region: str) -> InstanceData:
    """The data for a region, nothing without a file; raises ConfigError."""
    return InstanceData() if path is None else load(path, region, catalogue.everything())


def load(path: Path, region: str, known: Iterable[InstanceType]) -> InstanceData:
    """The entries of a file for a region. `known` are the types of all regions.

    Raises:
        ConfigError: says everything that is wrong with the file, also for other regions.
    """
    read = _read(path)
    problems = list(read.problems)
    shapes = {kind.name: kind for kind in known}
    entries: dict[str, list[Entry]] = {}
    for name, listed in read.data.items():
        place: KeyPath = (name,)
        if name != EVERYWHERE and not _REGION.fullmatch(name):
            message = f"unknown key; expected a region like us-east-1, or {EVERYWHERE} for all"
            problems.append(Problem(place, message, read.where(place)))
        elif not isinstance(listed, list):
            problems.append(Problem(place, "expected a list of instance types", read.where(place)))
        else:
            entries[name] = list(_entries(listed, place, read, shapes.keys(), problems))
    if problems:
        raise ConfigError(path, problems)
    return InstanceData((*entries.get(EVERYWHERE, ()), *entries.get(region, ())), shapes)


def _read(path: Path) -> source.Source:
    """JSON by the fast way, as the first Kip's files of a thousand entries are; anything else as YAML, with lines."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return source.read(path)
    return source.Source(data) if isinstance(data, dict) else source.read(path)


def _entries(
    listed: list[Any], place: KeyPath, read: source.Source, known: Collection[str], problems: list[Problem]
) -> Iterator[Entry]:
    for position, value in enumerate(listed):
        here: KeyPath = (*place, position)
        try:
            entry = Entry.model_validate(value)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                below, message = explain(detail, Entry, value)
                problems.append(Problem((*here, *below), message, read.where((*here, *below))))
            continue
        missing = [key for key, given in (("cpu", entry.cpu), ("memory", entry.memory_mib)) if given is None]
        if entry.offered and entry.instance_type not in known and missing:
            message = (
                f"{entry.instance_type} is not in the catalogue: its entry needs {' and '.join(missing)}"
            )
            problems.append(Problem(here, message, read.where(here)))
        yield entry


def _changed(kind: InstanceType, entry: Entry) -> InstanceType:
    vcpus = entry.cpu or kind.vcpus
    gpu_name = entry.gpu_type or next(iter(entry.supported_gpu_types), None) or kind.gpu_name
    gpus = entry.gpu if entry.gpu is not None else sum(entry.supported_gpu_types.values()) or kind.gpus
    burstable = kind.burstable if entry.burstable is None else entry.burstable
    current = kind.current_generation if entry.generation is None else entry.generation == "current"
    baseline = entry.baseline / vcpus * 1000 if entry.baseline else kind.baseline_per_mille
    return replace(
        kind,
        vcpus=vcpus,
        memory_mib=entry.memory_mib or kind.memory_mib,
        architecture=entry.architecture or kind.architecture,
        usd_per_hour=entry.price or kind.usd_per_hour,
        gpus=gpus,
        gpu_name=gpu_name if gpus else "",
        # Cells have drivers and device plugin for no other.
        gpu_manufacturer=(kind.gpu_manufacturer or "NVIDIA") if gpus else "",
        gpu_memory_mib=entry.gpu_memory_mib or kind.gpu_memory_mib,
        burstable=burstable,
        baseline_per_mille=baseline if burstable else None,
        current_generation=current,
    )


def _unknown(entry: Entry) -> InstanceType:
    return InstanceType(
        name=entry.instance_type,
        vcpus=entry.cpu or 0,
        memory_mib=entry.memory_mib or 0,
        architecture=entry.architecture or "amd64",
        bare_metal=".metal" in entry.instance_type,
        max_enis=_ENIS,
        max_ipv4_per_eni=_ADDRESSES,
    )
