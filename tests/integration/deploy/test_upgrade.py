"""From an earlier version's type and objects to today's: before the real API server, read and written by today's code."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from kip.local import build
from kip.local.cluster import unestablished
from kip.local.progress import Silent
from kip.local.waiting import until
from kip.model.cell import Cell, CloudRoutes
from kip.model.names import CELL_FINALIZER, GROUP, VERSION

pytestmark = pytest.mark.integration

EARLIER = Path(__file__).parent / "earlier"
DEFINITION = f"cells.{GROUP}"
NOW = datetime(2026, 12, 1, tzinfo=UTC)
Kubectl = Callable[..., str]


@pytest.fixture
def kubectl(control_plane: Any) -> Kubectl:
    program = build.ensure(build.KUBERNETES, Silent()) / "kubectl"

    def run(*arguments: str, stdin: str | None = None) -> str:
        command = [program, "--kubeconfig", control_plane.kubeconfig, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout

    return run


def bring(kubectl: Kubectl, definition: Path) -> None:
    """Replaces the type, as an upgrade does, and waits until it is served."""
    kubectl("replace", "-f", str(definition))
    until(
        lambda: unestablished(json.loads(kubectl("get", "crd", DEFINITION, "-o", "json"))),
        what="the type Cell",
        seconds=20,
    )


@pytest.fixture
def earlier(kubectl: Kubectl, project: Path) -> Iterator[list[dict[str, Any]]]:
    """Cells that were made under the earlier type, and then the type of today."""
    bring(kubectl, EARLIER / "crd.yaml")
    cells = json.loads((EARLIER / "cells.json").read_text())["items"]
    names = [cell["metadata"]["name"] for cell in cells]
    try:
        for cell in cells:
            kubectl("create", "-f", "-", stdin=json.dumps(cell))
            write(kubectl, cell["metadata"]["name"], cell["status"])
        bring(kubectl, project / "crds" / "cells.yaml")
        yield cells
    finally:
        bring(kubectl, project / "crds" / "cells.yaml")
        for name in names:
            kubectl("patch", "cell", name, "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
        kubectl("delete", "cell", *names)


def write(kubectl: Kubectl, name: str, status: dict[str, Any]) -> dict[str, Any]:
    patch = json.dumps({"status": status})
    told = kubectl("patch", "cell", name, "--subresource=status", "--type=merge", "-p", patch, "-o", "json")
    found: dict[str, Any] = json.loads(told)["status"]
    return found


def test_cells_of_an_earlier_version_are_read_whole_and_go_on(
    kubectl: Kubectl, earlier: list[dict[str, Any]]
) -> None:
    for written in earlier:
        name = written["metadata"]["name"]
        found = json.loads(kubectl("get", "cell", name, "-o", "json"))
        assert found["status"] == written["status"], "nothing of it was dropped"
        cell = Cell.from_object(found)
        assert cell.finalized
        assert CELL_FINALIZER in found["metadata"]["finalizers"]
        assert cell.phase == written["status"]["phase"], "it is where it was"
        # What today's code writes of it is what it has read, and what is new can be added.
        assert kept(written["status"], write(kubectl, name, cell.status())) == written["status"]
        routes = CloudRoutes("eni-1", "vpc-1", "subnet-1", ("172.20.0.0/16",))
        later = replace(cell, routes=routes).set("Routed", "True", "Routed", "it is", now=NOW)
        assert Cell.from_object({**found, "status": write(kubectl, name, later.status())}).routes == routes


def kept(was: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What is now of the fields that there were."""
    return {
        key: kept(value, now[key]) if isinstance(value, dict) else now.get(key) for key, value in was.items()
    }


def test_one_version_is_stored_and_it_is_the_one_that_the_code_speaks(project: Path) -> None:
    for definition in (project / "crds" / "cells.yaml", EARLIER / "crd.yaml"):
        versions = yaml.safe_load(definition.read_text())["spec"]["versions"]
        assert [v["name"] for v in versions if v["storage"]] == [VERSION]
        assert all(v["served"] for v in versions)


def test_no_field_is_ever_taken_away_or_given_another_type(project: Path) -> None:
    """Within one version of the type: what an earlier operator has written, every later one can read."""
    was, now = (fields(path) for path in (EARLIER / "crd.yaml", project / "crds" / "cells.yaml"))
    assert was.items() <= now.items()


def fields(definition: Path) -> dict[str, str]:
    """Type by path."""
    [version] = yaml.safe_load(definition.read_text())["spec"]["versions"]
    found: dict[str, str] = {}

    def walk(schema: dict[str, Any], path: str) -> None:
        found[path] = schema["type"]
        for name, inner in schema.get("properties", {}).items():
            walk(inner, f"{path}.{name}")
        if "items" in schema:
            walk(schema["items"], f"{path}[]")

    walk(version["schema"]["openAPIV3Schema"], "")
    return found
