"""The committed dashboards are what the tool makes, and ask for metrics and labels that there are."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from kip.observe.definitions import DEFINITIONS, IMAGE_CACHE

LABELS = {
    d.name: {*d.labels, *({"le"} if d.kind == "histogram" else ())} for d in (*DEFINITIONS, *IMAGE_CACHE)
}
FROM_SCRAPE = {"job", "instance"}


@pytest.fixture(scope="module")
def folder(project: Path) -> Path:
    return project / "deploy" / "observability" / "dashboards"


def panels(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted(folder.glob("*.json")):
        for one in json.loads(file.read_text())["panels"]:
            yield file.stem, one


def test_what_is_committed_is_made_by_the_tool(project: Path, folder: Path, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "tools/make_dashboards.py", "--out", str(tmp_path)],
        cwd=project,
        check=True,
        timeout=60,
    )
    made = {file.name: file.read_text() for file in tmp_path.iterdir()}
    committed = {file.name: file.read_text() for file in folder.iterdir()}
    assert made == committed, "run tools/make_dashboards.py"


def test_each_panel_has_a_place_of_its_own_and_says_what_it_shows(folder: Path) -> None:
    for file in folder.glob("*.json"):
        board = json.loads(file.read_text())
        assert board["uid"] == file.stem
        for one in board["panels"]:
            assert one["description"].endswith("."), one["title"]
            assert one["gridPos"]["x"] + one["gridPos"]["w"] <= 24
        for one, other in combinations((panel["gridPos"] for panel in board["panels"]), 2):
            apart = (
                one["x"] + one["w"] <= other["x"]
                or other["x"] + other["w"] <= one["x"]
                or one["y"] + one["h"] <= other["y"]
                or other["y"] + other["h"] <= one["y"]
            )
            assert apart, (file.name, one, other)
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_queries_are_about_metrics_and_labels_that_there_are(folder: Path) -> None:
    seen = set()
    for board, one in panels(folder):
        for target in one["targets"]:
            expr = target["expr"]
            names = re.findall(r"\b(kip_\w+|process_\w+)\{", expr)
            assert names, expr
            ours = [re.sub(r"_(bucket|count|sum)$", "", name) for name in names if name.startswith("kip_")]
            seen.update(ours)
            allowed = FROM_SCRAPE.union(*(LABELS[name] for name in ours))
            groups = re.findall(r"\bby \(([^)]*)\)", expr)
            used = {label.strip() for group in groups for label in group.split(",")}
            used |= set(re.findall(r"[{,]\s*(\w+)\s*(?:=|!=|=~|!~)\"", expr))
            used |= set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert used <= allowed, f"{board}: {one['title']}: {used - allowed}"
            assert expr.count('job=~"$job"') == len(names), f"{board}: {one['title']}: another job's data"
    assert seen == set(LABELS), "every metric has its place on a dashboard"
