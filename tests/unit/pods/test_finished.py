"""How far a pod is on the way to its end."""

from __future__ import annotations

from typing import Any

import pytest

from kip.pods.finished import has_started, is_deleted, is_finished


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
