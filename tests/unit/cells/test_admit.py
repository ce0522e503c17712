"""A pod without a cell that is marked for deletion is removed, whatever else it is: no kubelet is left to do it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kip.cells.admit import Admit
from kip.model.clock import ManualClock
from kip.model.outcome import Stop


class Report:
    def __init__(self) -> None:
        self.told: list[str] = []

    async def remove(self, pod) -> None:
        self.told.append("removed")

    async def failed(self, pod, reason, message) -> None:
        self.told.append(f"failed: {reason}")


def pod(phase: str, *, deleted: bool) -> dict:
    metadata = {"name": "web", "namespace": "shop", "uid": "u-1"}
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {
        "metadata": metadata,
        "spec": {},
        "status": {"phase": phase, "containerStatuses": [{"name": "c"}]},
    }


@pytest.mark.parametrize(
    ("phase", "deleted", "told"),
    [
        ("Pending", True, ["removed"]),
        ("Running", True, ["removed"]),
        ("Failed", True, ["removed"]),
        ("Succeeded", True, ["removed"]),
        ("Failed", False, []),
        ("Succeeded", False, []),
        ("Running", False, ["failed: CellLost"]),
    ],
)
async def test_what_becomes_of_a_pod_without_a_cell(phase, deleted, told):
    report = Report()
    admit = Admit(SimpleNamespace(report=report, clock=ManualClock()), SimpleNamespace(), lambda _: None)
    cell, outcome = await admit(pod(phase, deleted=deleted))
    assert cell is None
    assert isinstance(outcome, Stop)
    assert report.told == told
