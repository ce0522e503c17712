"""What a cell is for, over every state of its pod, its instance and itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kip.cells.goal import DELETION_SLACK, End, Relaunch, Run, decide
from kip.model.cell import CONNECTED, DRAINED, SERVING, TERMINATED, Cell, new_cell_object
from kip.model.clock import to_rfc3339

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def pod(phase: str = "Pending", *, deleted_ago_s: float | None = None, containers: bool = False) -> dict:
    metadata = {"name": "web", "namespace": "shop", "uid": "u-1"}
    if deleted_ago_s is not None:
        metadata["deletionTimestamp"] = to_rfc3339(NOW - timedelta(seconds=deleted_ago_s))
    status: dict = {"phase": phase}
    if containers:
        status["containerStatuses"] = [{"name": "c"}]
    return {"metadata": metadata, "spec": {"nodeName": "kip-provider-0"}, "status": status}


def cell(*, deleting: bool = False) -> Cell:
    obj = new_cell_object(pod())
    obj["metadata"] |= {"uid": "c-1", "resourceVersion": "7", "creationTimestamp": "2026-05-04T11:59:00Z"}
    return replace(Cell.from_object(obj), deleting=deleting, instance_id="i-1")


def served(**kwargs: bool) -> Cell:
    made = replace(cell(**kwargs), host_key="ssh-ed25519 AAAA")
    return made.set(CONNECTED, "True", "Connected", "", now=NOW).set(SERVING, "True", "Kubelet", "", now=NOW)


def goal_of(a_cell: Cell, a_pod: dict | None, gone: str | None = None):
    return decide(a_cell, a_pod, instance_gone=gone, now=NOW)


def test_a_pod_that_waits_or_runs_wants_its_cell():
    assert goal_of(cell(), pod()) == Run()
    assert goal_of(served(), pod("Running")) == Run()


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_an_ended_pods_logs_are_kept_before_its_machine_goes(phase):
    goal = goal_of(served(), pod(phase))
    assert isinstance(goal, End)
    assert (goal.reason, goal.keep_logs, goal.fail_pod, goal.remove_pod) == (
        "PodFinished",
        True,
        False,
        False,
    )


@pytest.mark.parametrize(("deleted_ago_s", "failed"), [(None, True), (5, False)])
def test_a_machine_that_is_waited_for_no_longer(deleted_ago_s, failed):
    goal = decide(
        served(),
        pod("Running", containers=True, deleted_ago_s=deleted_ago_s),
        instance_gone=None,
        now=NOW,
        out_of_reach="no connection",
    )
    assert goal == End("CellUnreachable", "no connection", remove_pod=not failed, fail_pod=failed)


def test_a_pod_that_no_longer_exists_takes_its_cell_along():
    goal = goal_of(served(), None)
    assert isinstance(goal, End)
    assert (goal.reason, goal.keep_logs, goal.fail_pod, goal.remove_pod) == ("PodGone", False, False, False)


def test_a_pod_deleted_before_it_started_is_removed_by_us():
    goal = goal_of(cell(), pod(deleted_ago_s=0))
    assert isinstance(goal, End)
    assert (goal.reason, goal.remove_pod) == ("PodDeleted", True)


def test_a_running_pod_that_is_deleted_is_left_to_its_kubelet_until_its_time_is_over():
    goal = goal_of(served(), pod("Running", deleted_ago_s=20))
    assert goal == Run(look_again_s=DELETION_SLACK.total_seconds() - 20)
    late = goal_of(served(), pod("Running", deleted_ago_s=61))
    assert isinstance(late, End)
    assert (late.reason, late.remove_pod) == ("DeletionOverdue", True)


def test_a_pod_with_containers_counts_as_served_even_if_that_was_never_noted():
    unnoted = replace(cell(), host_key="ssh-ed25519 AAAA")
    assert isinstance(goal_of(unnoted, pod("Running", deleted_ago_s=5, containers=True)), Run)


def test_a_lost_machine_fails_a_pod_that_ran_and_is_replaced_for_one_that_did_not():
    ran = goal_of(served(), pod("Running", containers=True), "Server.SpotInstanceTermination")
    assert isinstance(ran, End)
    assert ran.fail_pod
    assert "Server.SpotInstanceTermination" in ran.message
    assert isinstance(goal_of(cell(), pod(), "Server.InternalError"), Relaunch)


def test_a_lost_machine_of_a_pod_being_deleted_ends_the_pod():
    goal = goal_of(served(), pod("Running", deleted_ago_s=1, containers=True), "gone")
    assert isinstance(goal, End)
    assert goal.remove_pod
    assert not goal.fail_pod


def test_a_cell_deleted_by_hand_fails_its_pod():
    goal = goal_of(served(deleting=True), pod("Running", containers=True))
    assert isinstance(goal, End)
    assert (goal.reason, goal.fail_pod) == ("CellDeleted", True)


def test_an_ending_that_has_begun_goes_on_even_if_the_pod_looks_alive():
    ending = served().set(DRAINED, "True", "CellDeleted", "", now=NOW)
    goal = goal_of(ending, pod("Running", containers=True))
    assert isinstance(goal, End)
    assert goal.fail_pod
    assert goal.reason == "CellDeleted"


def test_an_ending_is_told_with_its_own_words_by_another_process_and_whatever_is_in_its_way():
    gone = "instance i-1 is gone: Server.SpotInstanceTermination"
    ending = served().set(TERMINATED, "Unknown", "InstanceGone", gone, now=NOW)
    goal = goal_of(ending, pod("Running", containers=True))
    assert (goal.reason, goal.message, goal.fail_pod) == ("InstanceGone", gone, True)
    drained = served().set(DRAINED, "True", "InstanceGone", gone, now=NOW)
    refused = drained.set(TERMINATED, "Unknown", "NotAuthorized", "not allowed", now=NOW)
    goal = goal_of(refused, pod("Running", containers=True))
    assert (goal.reason, goal.message) == ("InstanceGone", gone)
