"""Makes the bundled instance catalogue from AWS's own answers and price list.

    python tools/make_catalogue.py --prices ec2-on-demand-usd.csv.gz

Shapes of the types and where they are offered come from the DescribeInstanceTypes and
DescribeInstanceTypeOfferings answers that the moto package carries; prices from a CSV with the columns
region, instance_type, usd_per_hour. The output is the same for the same input, byte for byte.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib.util
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

#: Where `kip.cloud.catalogue` reads it.
OUT = Path(__file__).parent.parent / "operator" / "cloud" / "data"
ARCHITECTURES = {"x86_64": "amd64", "arm64": "arm64"}


def main() -> None:
    options = arguments()
    types = read_types(options.types)
    offered = read_offerings(options.offerings)
    prices = read_prices(options.prices)
    options.out.mkdir(parents=True, exist_ok=True)
    shapes = [shape(entry, architecture) for entry in types if (architecture := linux_architecture(entry))]
    write(options.out / "instance_types.csv.gz", sorted(shapes, key=lambda row: row["name"]))
    known = {row["name"] for row in shapes}
    write(options.out / "offerings.csv.gz", list(offering_rows(offered, prices, known)))


def arguments() -> argparse.Namespace:
    moto = importlib.util.find_spec("moto")
    resources = Path(moto.origin).parent / "ec2" / "resources" if moto and moto.origin else Path()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--types", type=Path, default=resources / "instance_types.json.gz")
    parser.add_argument("--offerings", type=Path, default=resources / "instance_type_offerings" / "region")
    parser.add_argument("--prices", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=OUT)
    return parser.parse_args()


def read_types(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as file:
        return list(json.load(file).values())


def read_offerings(directory: Path) -> dict[str, set[str]]:
    """Region to the types that are offered there."""
    offered: dict[str, set[str]] = {}
    for path in sorted(directory.glob("*.json.gz")):
        with gzip.open(path, "rt") as file:
            entries = json.load(file)
        offered[path.name.removesuffix(".json.gz")] = {entry["InstanceType"] for entry in entries}
    return offered


def read_prices(path: Path) -> dict[tuple[str, str], str]:
    """(region, type) to dollars an hour, as written in the price list."""
    with gzip.open(path, "rt", newline="") as file:
        return {(row["region"], row["instance_type"]): row["usd_per_hour"] for row in csv.DictReader(file)}


def linux_architecture(entry: Mapping[str, Any]) -> str | None:
    """Kubernetes' name of the architecture; None for Macs, which run no Linux image."""
    supported = entry["ProcessorInfo"]["SupportedArchitectures"]
    return next((ARCHITECTURES[name] for name in supported if name in ARCHITECTURES), None)


def shape(entry: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    gpus = entry.get("GpuInfo", {}).get("Gpus", [])
    first = gpus[0] if gpus else {}
    network = entry["NetworkInfo"]
    return {
        "name": entry["InstanceType"],
        "vcpus": entry["VCpuInfo"]["DefaultVCpus"],
        "memory_mib": entry["MemoryInfo"]["SizeInMiB"],
        "architecture": architecture,
        # A type with a fraction of a card has Count 0 and one logical GPU.
        "gpus": sum(gpu.get("LogicalGpuCount", gpu["Count"]) for gpu in gpus),
        "gpu_name": first.get("Name", ""),
        "gpu_manufacturer": first.get("Manufacturer", ""),
        "gpu_memory_mib": first.get("MemoryInfo", {}).get("SizeInMiB", 0),
        "burstable": int(entry["BurstablePerformanceSupported"]),
        "bare_metal": int(entry["BareMetal"]),
        "current_generation": int(entry["CurrentGeneration"]),
        "hypervisor": entry.get("Hypervisor", ""),
        "spot": int("spot" in entry["SupportedUsageClasses"]),
        "local_disk_gb": entry.get("InstanceStorageInfo", {}).get("TotalSizeInGB", 0),
        "max_enis": network["MaximumNetworkInterfaces"],
        "max_ipv4_per_eni": network["Ipv4AddressesPerInterface"],
    }


def offering_rows(
    offered: Mapping[str, set[str]], prices: Mapping[tuple[str, str], str], known: set[str]
) -> Iterable[dict[str, str]]:
    """One row for each type in each region; a type with a price is offered, whatever the offerings say."""
    by_region: dict[str, set[str]] = defaultdict(set)
    for region, names in offered.items():
        by_region[region] |= names
    for region, name in prices:
        by_region[region].add(name)
    for region, names in sorted(by_region.items()):
        for name in sorted(names & known):
            yield {"region": region, "name": name, "usd_per_hour": prices.get((region, name), "")}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    # No time in the file's header: the same rows are the same file.
    path.write_bytes(gzip.compress(text.getvalue().encode(), compresslevel=9, mtime=0))
    print(f"{path}: {len(rows)} rows, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
