"""How far a pod is on the way to its end."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kip.pods.finished import ended_statuses, has_started, is_deleted, is_finished


@pytest.mark.parametrize(
    ("phase", "finished"),
    [
        ("Succeeded", True),
        ("Failed", True),
        ("Running", False),
        ("Pending", False),
        ("Unknown", False),
        (None, False),
    ],
)
def test_is_finished(phase: str | None, finished: bool) -> None:
    assert is_finished({"status": {"phase": phase}}) is finished
    assert not is_finished({})


def test_deletion() -> None:
    pod = {"metadata": {"deletionTimestamp": "2026-01-02T03:04:05Z"}}
    assert is_deleted(pod)
    assert not is_deleted({"metadata": {}})


@pytest.mark.parametrize(
    ("status", "started"),
    [
        (None, False),
        ({"phase": "Pending"}, False),
        ({"containerStatuses": []}, False),
        ({"containerStatuses": [{"name": "c"}]}, True),
        ({"initContainerStatuses": [{"name": "i"}]}, True),
    ],
)
def test_has_started(status: dict[str, Any] | None, started: bool) -> None:
    assert has_started({"status": status}) is started


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_when_the_machine_is_gone_no_container_runs() -> None:
    running = {
        "name": "app",
        "containerID": "containerd://1",
        "ready": True,
        "started": True,
        "restartCount": 2,
        "state": {"running": {"startedAt": "2026-01-02T00:00:00Z"}},
    }
    done = {"name": "init", "ready": True, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
    pulling = {"name": "side", "ready": False, "state": {"waiting": {"reason": "ErrImagePull"}}}
    status = {"containerStatuses": [running, pulling], "initContainerStatuses": [done]}
    assert ended_statuses({"status": status}, "InstanceGone", "spot", NOW) == {
        "initContainerStatuses": [done],
        "containerStatuses": [
            {
                **running,
                "ready": False,
                "started": False,
                "state": {
                    "terminated": {
                        "reason": "InstanceGone",
                        "exitCode": 137,
                        "message": "spot",
                        "startedAt": "2026-01-02T00:00:00Z",
                        "finishedAt": "2026-01-02T03:04:05Z",
                        "containerID": "containerd://1",
                    }
                },
            },
            pulling,
        ],
    }
    assert ended_statuses({"status": {"phase": "Pending"}}, "InstanceGone", "spot", NOW) == {}
