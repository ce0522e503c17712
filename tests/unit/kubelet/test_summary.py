from __future__ import annotations

from kip.kubelet.summary import merge

ONE = {
    "node": {
        "nodeName": "kip-0",
        "startTime": "2026-01-01T00:00:00Z",
        "cpu": {"time": "2026-01-02T00:00:00Z", "usageNanoCores": 5, "usageCoreNanoSeconds": 1000},
        "memory": {"time": "2026-01-02T00:00:00Z", "availableBytes": 100, "workingSetBytes": 10},
        "network": {"name": "eth0"},
    },
    "pods": [{"podRef": {"name": "a", "uid": "u1"}}, {"podRef": {"name": "device-plugin", "uid": "static"}}],
}
TWO = {
    "node": {
        "nodeName": "kip-0",
        "startTime": "2026-01-03T00:00:00Z",
        "cpu": {"time": "2026-01-04T00:00:00Z", "usageNanoCores": 7, "usageCoreNanoSeconds": 2000},
        "memory": {"time": "2026-01-01T00:00:00Z", "availableBytes": 1, "workingSetBytes": 2},
    },
    "pods": [{"podRef": {"name": "b", "uid": "u2"}}],
}


def test_nodes_add_up_and_each_gives_its_one_pod() -> None:
    assert merge("kip-0", [("u1", ONE), ("u2", TWO)]) == {
        "node": {
            "nodeName": "kip-0",
            "startTime": "2026-01-01T00:00:00Z",
            "cpu": {"time": "2026-01-04T00:00:00Z", "usageNanoCores": 12, "usageCoreNanoSeconds": 3000},
            "memory": {"time": "2026-01-02T00:00:00Z", "availableBytes": 101, "workingSetBytes": 12},
        },
        "pods": [{"podRef": {"name": "a", "uid": "u1"}}, {"podRef": {"name": "b", "uid": "u2"}}],
    }


def test_cells_that_say_nothing_yet() -> None:
    assert merge("kip-0", [("u", {}), ("v", {"node": None, "pods": None})]) == {
        "node": {"nodeName": "kip-0"},
        "pods": [],
    }
