"""What people read of a pod that has no kubelet yet, or no more."""

from __future__ import annotations

import pytest

from kip.cells.report import Reporter
from kip.cells.repository import CELLS_PATH
from kip.kube.errors import Unavailable
from kip.kube.events import EventRecorder
from kip.kube.fake import FakeApi
from kip.model.cell import Cell, new_cell_object
from kip.model.clock import ManualClock

PODS = "/api/v1/namespaces/shop/pods"


class World:
    def __init__(self) -> None:
        clock = ManualClock()
        self.api = FakeApi(clock=clock)
        self.seen: list[dict] = []
        events = EventRecorder(self.api, clock, component="kip", host="n")
        self.report = Reporter(self.api, events, clock, seen=self.seen.append)

    async def pod(self, **status) -> dict:
        body = {"metadata": {"name": "web"}, "spec": {"nodeName": "n"}, "status": status}
        return await self.api.create(PODS, body)

    async def status(self) -> dict:
        return (await self.api.get(f"{PODS}/web"))["status"]

    def told(self) -> list[tuple[str, str]]:
        return [(e["type"], e["reason"]) for e in self.api.all("events")]


@pytest.fixture
def world():
    return World()


async def test_a_problem_is_an_event_and_the_pods_status(world):
    await world.report.problem(await world.pod(), "NoInstanceFits", "needs 10000 CPUs")
    assert await world.status() == {
        "phase": "Pending",
        "reason": "NoInstanceFits",
        "message": "needs 10000 CPUs",
    }
    assert world.told() == [("Warning", "NoInstanceFits")]
    assert world.seen[-1]["status"]["reason"] == "NoInstanceFits", "who decides next knows of it"


async def test_a_problem_that_is_there_already_is_not_written_again(world):
    pod = await world.pod(reason="NoInstanceFits", message="m")
    await world.report.problem(pod, "NoInstanceFits", "m")
    assert not [r for r in world.api.writes() if r.method == "PATCH"]


async def test_a_solved_problem_is_taken_back_and_nothing_else_is(world):
    pod = await world.pod()
    await world.report.solved(pod)
    assert not [r for r in world.api.writes() if r.method == "PATCH"]
    await world.report.problem(pod, "NoInstanceFits", "m")
    await world.report.solved(world.seen[-1])
    assert await world.status() == {"phase": "Pending"}


async def test_a_failed_pods_reason_stays(world):
    pod = await world.pod(phase="Failed", reason="Evicted")
    await world.report.solved(pod)
    assert (await world.status())["reason"] == "Evicted"


async def test_a_lost_pod_has_failed_by_disruption_and_is_not_ready(world):
    before = [
        {"type": "Ready", "status": "True", "lastTransitionTime": "2025-01-01T00:00:00Z"},
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2025-01-01T00:00:00Z"},
    ]
    containers = [{"name": "app", "ready": True, "state": {"running": {"startedAt": "2025-01-01T00:00:00Z"}}}]
    pod = await world.pod(phase="Running", conditions=before, containerStatuses=containers)
    await world.report.failed(pod, "InstanceGone", "spot")
    status = await world.status()
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "InstanceGone", "spot")
    conditions = {c["type"]: c for c in status["conditions"]}
    assert conditions["Ready"]["status"] == "False"
    assert conditions["PodScheduled"] == before[1]
    [app] = status["containerStatuses"]
    assert app["ready"] is False
    assert app["state"]["terminated"]["exitCode"] == 137
    assert (conditions["DisruptionTarget"]["status"], conditions["DisruptionTarget"]["reason"]) == (
        "True",
        "InstanceGone",
    )


async def test_a_failure_that_could_not_be_written_is_not_passed_over(world):
    """Its Cell would go, and the pod would seem to run for ever."""
    pod = await world.pod(phase="Running")
    world.api.fail("PATCH", "status")
    with pytest.raises(Unavailable):
        await world.report.failed(pod, "InstanceGone", "spot")


async def test_a_problem_that_could_not_be_written_keeps_nobody_from_working(world):
    pod = await world.pod()
    world.api.fail("PATCH", "status", status=403)
    await world.report.problem(pod, "NoInstanceFits", "m")


async def test_the_end_of_a_pod_is_confirmed_for_exactly_that_pod(world):
    pod = await world.pod()
    await world.report.remove(pod)
    assert world.api.all("pods") == []
    await world.report.remove(pod)
    successor = await world.pod()
    await world.report.remove(pod)
    assert [p["metadata"]["uid"] for p in world.api.all("pods")] == [successor["metadata"]["uid"]]
    world.api.away = True
    with pytest.raises(Unavailable):
        await world.report.remove(successor)


async def test_what_is_wrong_is_told_of_the_cell_too_and_what_goes_well_is_not():
    clock = ManualClock()
    api = FakeApi(clock=clock)
    pod = await api.create(PODS, {"metadata": {"name": "web"}, "spec": {"nodeName": "n"}})
    cell = Cell.from_object(await api.create(CELLS_PATH, new_cell_object(pod)))
    report = Reporter(
        api,
        EventRecorder(api, clock, component="kip", host="n"),
        clock,
        cell_of={pod["metadata"]["uid"]: cell}.get,
        cell_events=EventRecorder(api, clock, component="kip", host="n"),
    )
    await report.progress(pod, "CellLaunched", "i-1")
    await report.problem(pod, "BootFailed", "no host key")
    await report.cell_warning(cell, "RoutesLeft", "one is left")
    told = [(e["involvedObject"]["kind"], e["reason"]) for e in api.all("events")]
    assert told == [
        ("Pod", "CellLaunched"),
        ("Pod", "BootFailed"),
        ("Cell", "BootFailed"),
        ("Cell", "RoutesLeft"),
    ]
    of_cell = api.all("events")[-1]
    assert of_cell["involvedObject"] == {
        "apiVersion": "kip.elotl.co/v1beta1",
        "kind": "Cell",
        "name": cell.name,
        "namespace": "",
        "uid": cell.uid,
    }
    assert of_cell["metadata"]["namespace"] == "default", "events about what has no namespace are there"
