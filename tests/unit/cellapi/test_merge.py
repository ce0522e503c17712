from __future__ import annotations

from typing import Any

import pytest

from kip.cellapi.merge import strategic_merge
from kip.cellapi.problem import Problem

MEMORY = {"type": "MemoryPressure", "status": "False", "lastHeartbeatTime": "1"}
READY = {"type": "Ready", "status": "False", "reason": "KubeletNotReady", "lastHeartbeatTime": "1"}


def node(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "kip-0"}, "status": status}


def test_conditions_are_merged_by_type_in_the_order_given() -> None:
    # As kubelet 1.36 sends it every 10 s, with what changed.
    patch = {
        "status": {
            "$setElementOrder/conditions": [
                {"type": "MemoryPressure"},
                {"type": "DiskPressure"},
                {"type": "Ready"},
            ],
            "conditions": [
                {"lastHeartbeatTime": "2", "type": "Ready", "status": "True", "reason": "KubeletReady"},
                {"lastHeartbeatTime": "2", "type": "DiskPressure", "status": "False"},
                {"lastHeartbeatTime": "2", "type": "MemoryPressure"},
            ],
        }
    }
    merged = strategic_merge(node(conditions=[READY, MEMORY]), patch)
    assert merged["status"]["conditions"] == [
        {**MEMORY, "lastHeartbeatTime": "2"},
        {"type": "DiskPressure", "status": "False", "lastHeartbeatTime": "2"},
        {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": "2"},
    ]


def test_an_order_alone_moves_elements() -> None:
    patch = {"status": {"$setElementOrder/conditions": [{"type": "MemoryPressure"}, {"type": "Ready"}]}}
    merged = strategic_merge(node(conditions=[READY, MEMORY]), patch)
    assert merged["status"]["conditions"] == [MEMORY, READY]


def test_an_element_can_be_deleted() -> None:
    patch = {"status": {"conditions": [{"type": "Ready", "$patch": "delete"}]}}
    assert strategic_merge(node(conditions=[READY, MEMORY]), patch)["status"]["conditions"] == [MEMORY]


def test_addresses_are_replaced_as_kubelets_ask_for() -> None:
    # component-helpers/node/util/status.go, fixupPatchForNodeStatusAddresses
    old = [{"type": "InternalIP", "address": "10.0.0.7"}, {"type": "Hostname", "address": "kip-0"}]
    new = [{"type": "InternalIP", "address": "10.0.0.7"}, {"type": "InternalIP", "address": "fd00::7"}]
    merged = strategic_merge(node(addresses=old), {"status": {"addresses": [*new, {"$patch": "replace"}]}})
    assert merged["status"]["addresses"] == new


def test_addresses_are_merged_by_type_otherwise() -> None:
    old = [{"type": "InternalIP", "address": "10.0.0.7"}, {"type": "Hostname", "address": "kip-0"}]
    patch = {"status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.8"}]}}
    merged = strategic_merge(node(addresses=old), patch)
    assert merged["status"]["addresses"] == [{"type": "InternalIP", "address": "10.0.0.8"}, old[1]]


def test_other_lists_are_replaced() -> None:
    merged = strategic_merge(
        node(images=[{"names": ["a"]}], volumesInUse=["v"]),
        {"status": {"images": [{"names": ["b"]}], "volumesInUse": None}},
    )
    assert merged["status"] == {"images": [{"names": ["b"]}]}


def test_maps_are_merged_and_null_deletes() -> None:
    original = {
        "metadata": {"labels": {"a": "1", "b": "2"}},
        "status": {"allocatable": {"cpu": "2", "pods": "20"}},
    }
    patch = {"metadata": {"labels": {"b": None, "c": "3"}}, "status": {"allocatable": {"cpu": "1900m"}}}
    assert strategic_merge(original, patch) == {
        "metadata": {"labels": {"a": "1", "c": "3"}},
        "status": {"allocatable": {"cpu": "1900m", "pods": "20"}},
    }


def test_directives_on_maps() -> None:
    original = node(nodeInfo={"a": "1", "b": "2"}, capacity={"cpu": "1"}, config={"x": "1"})
    patch = {
        "status": {
            "nodeInfo": {"$retainKeys": ["b", "c"], "c": "3"},
            "capacity": {"$patch": "replace", "memory": "1Gi"},
            "config": {"$patch": "delete"},
        }
    }
    assert strategic_merge(original, patch)["status"] == {
        "nodeInfo": {"b": "2", "c": "3"},
        "capacity": {"memory": "1Gi"},
        "config": {},
    }


def test_sets_of_strings() -> None:
    original = {"metadata": {"finalizers": ["a", "b"]}}
    patch = {"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}
    assert strategic_merge(original, patch) == {"metadata": {"finalizers": ["b", "c"]}}


def test_changes_neither_argument() -> None:
    original = node(conditions=[dict(READY)])
    patch = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    strategic_merge(original, patch)
    assert original == node(conditions=[READY])
    assert patch == {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}


@pytest.mark.parametrize(
    "patch",
    [
        {"status": {"conditions": {"type": "Ready"}, "$patch": "nonsense"}},
        {"status": {"conditions": ["Ready"]}},
        {"status": {"conditions": [{"status": "True"}]}},
        {"status": {"conditions": [{"type": {"a": 1}}]}},
        {"status": {"conditions": "Ready"}},
        {"metadata": {"$deleteFromPrimitiveList/finalizers": "a"}},
        {"status": {"$retainKeys": 7}},
    ],
)
def test_malformed_patches_are_refused(patch: dict[str, Any]) -> None:
    with pytest.raises(Problem) as problem:
        strategic_merge(node(conditions=[READY]), patch)
    assert problem.value.code == 422
