"""The bundled catalogue is what the tool makes of its sources."""

from __future__ import annotations

import csv
import gzip
import subprocess
import sys
from pathlib import Path


def rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_committed_can_be_made_again(project: Path, tmp_path: Path) -> None:
    committed = project / "operator" / "cloud" / "data"
    as_of = {row["region"]: row["prices_as_of"] for row in rows(committed / "regions.csv.gz")}
    prices = tmp_path / "prices.csv.gz"
    with gzip.open(prices, "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("region", "instance_type", "usd_per_hour", "as_of"))
        for row in rows(committed / "offerings.csv.gz"):
            if row["usd_per_hour"]:
                writer.writerow((row["region"], row["name"], row["usd_per_hour"], as_of[row["region"]]))
    out = tmp_path / "data"
    subprocess.run(
        [sys.executable, "tools/make_catalogue.py", "--prices", str(prices), "--out", str(out)],
        cwd=project,
        env={"PYTHONPATH": str(project / "src")},
        check=True,
        capture_output=True,
    )
    for path in sorted(committed.iterdir()):
        # Not the compressed bytes: those are the same for the same zlib only.
        made, there = (gzip.decompress(p.read_bytes()) for p in (out / path.name, path))
        assert made == there, f"{path.name}: run `make catalogue`"
        assert (out / path.name).read_bytes()[4:8] == bytes(4), "no time in the file's header"
