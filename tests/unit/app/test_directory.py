"""What is known of a pod that nothing answers for."""

from __future__ import annotations

from typing import Any

import pytest

from kip.app.directory import Directory
from kip.kube.store import PodStore


class NoLinks:
    def get(self, _name: str) -> None:
        return None


class CellsOf:
    """The repository, with nothing of a Cell but that it is there."""

    def __init__(self, *uids: str) -> None:
        self._uids = uids

    def get(self, uid: str) -> Any:
        return object() if uid in self._uids else None


def pod(**status: Any) -> dict[str, Any]:
    metadata = {"namespace": "ns", "name": "web", "uid": "u1", "resourceVersion": "1"}
    return {"metadata": metadata, "spec": {}, "status": status}


def directory(*pods: dict[str, Any], cells: tuple[str, ...] = ()) -> Directory:
    store = PodStore()
    for one in pods:
        store.put(one)
    return Directory(CellsOf(*cells), NoLinks(), store)  # type: ignore[arg-type]


STARTED = {"phase": "Running", "containerStatuses": [{"name": "web"}]}


@pytest.mark.parametrize(
    ("status", "cells", "why"),
    [
        ({}, (), "is waiting to start: ContainerCreating"),
        ({"phase": "Pending"}, ("u1",), "is waiting to start: ContainerCreating"),
        ({"phase": "Pending", "reason": "NoCapacity"}, ("u1",), "is waiting to start: NoCapacity"),
        (STARTED, ("u1",), None),
        ({"phase": "Failed"}, (), "has ended, and its machine is gone"),
        ({"phase": "Succeeded"}, ("u1",), None),
    ],
)
def test_a_pod_is_silent_while_its_machine_comes_and_when_it_is_gone(
    status: dict[str, Any], cells: tuple[str, ...], why: str | None
) -> None:
    assert directory(pod(**status), cells=cells).why_silent("ns", "web") == why


def test_nothing_is_said_of_pods_that_are_not_ours() -> None:
    known = directory(pod())
    assert known.why_silent("ns", "other") is None
    assert known.why_silent("ns", "web", "another-uid") is None
    assert known.why_silent("ns", "web", "u1") is not None
