"""A pod without a cell that is marked for deletion is removed, whatever else it is: no kubelet is left to do it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kip.cells.admit import Admit
from kip.cells.rest import Rests
from kip.model.clock import ManualClock
from kip.model.outcome import Stop, Wait
from kip.pods.annotations import Layer


class Report:
    def __init__(self) -> None:
        self.told: list[str] = []

    async def remove(self, pod) -> None:
        self.told.append("removed")

    async def failed(self, pod, reason, message) -> None:
        self.told.append(f"failed: {reason}")

    async def warning(self, pod, reason, message) -> None:
        self.told.append(f"warning: {reason}")


def admission(report: Report, cells, **more) -> Admit:
    async def foresee(pod):
        return ()

    clock = ManualClock()
    tools = SimpleNamespace(
        report=report, clock=clock, cells=cells, rests=Rests(clock), observe=lambda *_: None
    )
    return Admit(tools, SimpleNamespace(foresee=foresee), lambda _: None, **more)


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
    admit = admission(report, SimpleNamespace(unreadable=set()))
    cell, outcome = await admit(pod(phase, deleted=deleted))
    assert cell is None
    assert isinstance(outcome, Stop)
    assert report.told == told


@pytest.mark.parametrize("phase", ["Pending", "Running", "Failed"])
@pytest.mark.parametrize("deleted", [False, True])
async def test_a_pod_whose_cell_cannot_be_read_is_left_as_it_is(phase, deleted):
    """Its machine may run, and the pod on it."""
    report = Report()
    admit = admission(report, SimpleNamespace(unreadable={"kip-u-1"}))
    cell, outcome = await admit(pod(phase, deleted=deleted))
    assert cell is None
    assert isinstance(outcome, Wait)
    assert report.told == ["warning: CellUnreadable"]


async def test_a_cell_that_is_there_already_and_cannot_be_read_is_no_error_without_end():
    async def create(pod):
        return None

    report = Report()
    admit = admission(report, SimpleNamespace(unreadable=set(), create=create))
    cell, outcome = await admit({**pod("Pending", deleted=False), "status": {"phase": "Pending"}})
    assert cell is None
    assert isinstance(outcome, Wait)
    assert report.told == ["warning: CellUnreadable"]


async def test_who_gets_a_cell_hears_of_what_nobody_knows_of_its_namespace():
    made = object()

    async def create(pod):
        return made

    report = Report()
    namespace = Layer("namespace shop", {"pod.elotl.co/lauch-type": "spot"})
    admit = admission(
        report, SimpleNamespace(unreadable=set(), create=create), defaults=lambda _: (namespace,)
    )
    ours = {**pod("Pending", deleted=False), "status": {"phase": "Pending"}}
    ours["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    assert (await admit(ours))[0] is made
    assert report.told == ["warning: UnknownAnnotation"]
