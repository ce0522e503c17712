"""Makes the bundled instance catalogue from AWS's own answers and price list.

    make catalogue PRICES=ec2-on-demand-usd.csv.gz

Shapes of the types and where they are offered come from the DescribeInstanceTypes and
DescribeInstanceTypeOfferings answers that the moto package carries; prices from a CSV with the columns
region, instance_type, usd_per_hour, as_of. The output is the same for the same input, byte for byte.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib.util
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kip.cloud.catalogue import COLUMNS, to_row
from kip.cloud.shapes import from_description

#: Where `kip.cloud.catalogue` reads it.
OUT = Path(__file__).parent.parent / "operator" / "cloud" / "data"


@dataclass
class Region:
    """What is known of one region."""

    zones: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Type → ids of the zones that have it."""
    zone_names: set[str] = field(default_factory=set)
    prices: dict[str, str] = field(default_factory=dict)
    """Type → dollars an hour, as written in the price list."""
    as_of: str = ""


def main() -> None:
    options = arguments()
    regions = read_regions(options.offerings, options.prices)
    types = sorted(map(from_description, read_descriptions(options.types)), key=lambda kind: kind.name)
    options.out.mkdir(parents=True, exist_ok=True)
    write(options.out / "instance_types.csv.gz", COLUMNS, map(to_row, types))
    known = {kind.name for kind in types}
    write(
        options.out / "offerings.csv.gz",
        ("region", "name", "usd_per_hour", "zones"),
        offerings(regions, known),
    )
    write(
        options.out / "regions.csv.gz",
        ("region", "zone_prefix", "zone_letters", "prices_as_of"),
        summary(regions),
    )


def arguments() -> argparse.Namespace:
    moto = importlib.util.find_spec("moto")
    resources = Path(moto.origin).parent / "ec2" / "resources" if moto and moto.origin else Path()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--types", type=Path, default=resources / "instance_types.json.gz")
    parser.add_argument("--offerings", type=Path, default=resources / "instance_type_offerings")
    parser.add_argument("--prices", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=OUT)
    return parser.parse_args()


def read_descriptions(path: Path) -> Iterable[Mapping[str, Any]]:
    return list(json.loads(gzip.decompress(path.read_bytes())).values())


def read_regions(offerings: Path, prices: Path) -> dict[str, Region]:
    regions: dict[str, Region] = defaultdict(Region)
    for region, entry in _offered(offerings / "availability-zone-id"):
        regions[region].zones[entry["InstanceType"]].add(entry["Location"])
    for region, entry in _offered(offerings / "availability-zone"):
        regions[region].zone_names.add(entry["Location"])
    with gzip.open(prices, "rt", newline="") as file:
        for row in csv.DictReader(file):
            region = regions[row["region"]]
            region.prices[row["instance_type"]] = row["usd_per_hour"]
            region.as_of = max(region.as_of, row["as_of"])
    return dict(sorted(regions.items()))


def _offered(directory: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    for path in sorted(directory.glob("*.json.gz")):
        for entry in json.loads(gzip.decompress(path.read_bytes())):
            yield path.name.removesuffix(".json.gz"), entry


def offerings(regions: Mapping[str, Region], known: set[str]) -> Iterator[tuple[str, ...]]:
    """One row for each type in each region; a type with a price is offered, whatever the offerings say."""
    for name, region in regions.items():
        prefix = zone_prefix(region)
        for kind in sorted((region.zones.keys() | region.prices.keys()) & known):
            zones = "".join(sorted(zone.removeprefix(prefix) for zone in region.zones.get(kind, ())))
            yield name, kind, region.prices.get(kind, ""), zones


def summary(regions: Mapping[str, Region]) -> Iterator[tuple[str, ...]]:
    for name, region in regions.items():
        letters = "".join(sorted(zone.removeprefix(name) for zone in region.zone_names))
        yield name, zone_prefix(region), letters, region.as_of


def zone_prefix(region: Region) -> str:
    """`use1-az` of `use1-az4`: what the ids of a region's zones have in common before a single digit."""
    ids = sorted(set().union(*region.zones.values()))
    prefixes = {id_[:-1] for id_ in ids}
    if len(prefixes) > 1 or not all(id_[-1].isdigit() for id_ in ids):
        raise SystemExit(f"zone ids of another form than use1-az4: {ids}")
    return prefixes.pop() if prefixes else ""


def write(path: Path, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    # No time in the file's header: the same rows are the same file.
    path.write_bytes(gzip.compress(text.getvalue().encode(), compresslevel=9, mtime=0))
    print(f"{path}: {text.getvalue().count(chr(10)) - 1} rows, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
