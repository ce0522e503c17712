"""What the virtual node says of itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kip.node.object import (
    HEALTHY,
    Health,
    NodeOptions,
    difference,
    new_node,
    same_but_heartbeat,
    status,
    status_patch,
)

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
OPTIONS = NodeOptions(
    name="kip-provider-0",
    cluster="blue",
    address="10.0.0.7",
    kubelet_port=10250,
    capacity={"cpu": "100", "memory": "1Ti", "pods": "1000"},
    labels={"team": "core", "kubernetes.io/arch": "arm64"},
    kubelet_version="v1.36.3",
)
ILL = Health(ready=False, reason="CloudUnreachable", message="AWS cannot be used: timed out")


def condition(of: dict, kind: str) -> dict:
    return next(c for c in of["conditions"] if c["type"] == kind)


def test_pods_must_tolerate_it_and_cloud_controllers_must_not_know_it():
    node = new_node(OPTIONS)
    assert node["spec"]["taints"] == [
        {"key": "virtual-kubelet.io/provider", "value": "kip", "effect": "NoSchedule"}
    ]
    assert node["spec"]["providerID"] == "kip://blue/kip-provider-0"
    labels = node["metadata"]["labels"]
    assert labels["type"] == "virtual-kubelet"
    assert labels["kubernetes.io/hostname"] == "kip-provider-0"
    assert labels["node.kubernetes.io/exclude-from-external-load-balancers"] == "true"


def test_a_configured_label_wins():
    labels = new_node(OPTIONS)["metadata"]["labels"]
    assert (labels["team"], labels["kubernetes.io/arch"]) == ("core", "arm64")


def test_its_status_says_where_its_kubelet_api_is_and_what_it_can_hold():
    said = status(OPTIONS, HEALTHY, now=NOW)
    assert said["addresses"] == [{"type": "InternalIP", "address": "10.0.0.7"}]
    assert said["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 10250}}
    assert said["capacity"] == said["allocatable"] == {"cpu": "100", "memory": "1Ti", "pods": "1000"}
    assert said["nodeInfo"]["kubeletVersion"] == "v1.36.3"
    assert condition(said, "Ready")["status"] == "True"
    pressures = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")
    assert {condition(said, kind)["status"] for kind in pressures} == {"False"}


def test_the_reason_why_aws_cannot_be_used_is_the_reason_why_it_is_not_ready():
    ready = condition(status(OPTIONS, ILL, now=NOW), "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "CloudUnreachable")
    assert "timed out" in ready["message"]


def test_a_condition_keeps_its_time_until_its_status_changes():
    first = status(OPTIONS, HEALTHY, now=NOW)
    later = status(OPTIONS, HEALTHY, now=NOW + timedelta(minutes=5), before=first)
    assert condition(later, "Ready")["lastTransitionTime"] == "2026-05-04T12:00:00Z"
    assert condition(later, "Ready")["lastHeartbeatTime"] == "2026-05-04T12:05:00Z"
    ill = status(OPTIONS, ILL, now=NOW + timedelta(minutes=9), before=later)
    assert condition(ill, "Ready")["lastTransitionTime"] == "2026-05-04T12:09:00Z"
    assert condition(ill, "DiskPressure")["lastTransitionTime"] == "2026-05-04T12:00:00Z"


def test_a_heartbeat_alone_is_no_difference():
    one = status(OPTIONS, HEALTHY, now=NOW)
    other = status(OPTIONS, HEALTHY, now=NOW + timedelta(minutes=1), before=one)
    # The API server leaves out what is empty.
    kept = {**one, "nodeInfo": {k: v for k, v in one["nodeInfo"].items() if v}}
    assert same_but_heartbeat(kept, other)
    assert not same_but_heartbeat(one, status(OPTIONS, ILL, now=NOW, before=one))
    moved = replace(OPTIONS, address="10.0.0.8")
    assert not same_but_heartbeat(one, status(moved, HEALTHY, now=NOW, before=one))
    assert not same_but_heartbeat({}, one)


@pytest.mark.parametrize(
    ("configured", "canonical"),
    [("1024Mi", "1Gi"), ("0.5", "500m"), ("1000m", "1"), ("1e3", "1k"), ("100Gi", "100Gi")],
)
def test_amounts_are_compared_as_numbers(configured, canonical):
    wanted = status(replace(OPTIONS, capacity={"memory": configured}), HEALTHY, now=NOW)
    stored = {**wanted, "capacity": {"memory": canonical}, "allocatable": {"memory": canonical}}
    assert same_but_heartbeat(stored, wanted)
    assert not same_but_heartbeat({**stored, "capacity": {"memory": "7"}}, wanted)
    assert not same_but_heartbeat({**stored, "allocatable": {}}, wanted)


def test_a_resource_that_is_no_longer_offered_is_a_difference_and_taken_away():
    before = status(replace(OPTIONS, capacity={"cpu": "1", "example.com/dongle": "4"}), HEALTHY, now=NOW)
    wanted = status(replace(OPTIONS, capacity={"cpu": "2"}), HEALTHY, now=NOW, before=before)
    assert not same_but_heartbeat(before, wanted)
    patch = status_patch(before, wanted)
    assert patch["capacity"] == patch["allocatable"] == {"cpu": "2", "example.com/dongle": None}
    assert status_patch({}, wanted)["capacity"] == {"cpu": "2"}


def test_conditions_of_others_are_none_of_our_business():
    one = status(OPTIONS, HEALTHY, now=NOW)
    theirs = {"type": "KernelDeadlock", "status": "False"}
    assert same_but_heartbeat({**one, "conditions": [theirs, *one["conditions"]]}, one)
    assert not same_but_heartbeat({**one, "conditions": one["conditions"][1:]}, one)


def test_a_label_that_is_configured_no_more_goes_and_others_stay():
    before = new_node(OPTIONS)
    before["metadata"]["labels"]["theirs"] = "1"
    before["metadata"]["annotations"]["theirs"] = "1"
    wanted = new_node(replace(OPTIONS, labels={"tier": "back"}))
    assert difference(before, before) == {}
    metadata = difference(before, wanted)["metadata"]
    assert metadata["labels"] == {"tier": "back", "team": None, "kubernetes.io/arch": "amd64"}
    assert set(metadata["annotations"]) == {"kip.elotl.co/labels"}
    assert "team" not in metadata["annotations"]["kip.elotl.co/labels"]


def test_labels_of_a_node_that_somebody_else_made_are_left_alone():
    node = {"metadata": {"name": OPTIONS.name, "labels": {"team": "other", "theirs": "1"}}, "spec": {}}
    assert None not in difference(node, new_node(OPTIONS))["metadata"]["labels"].values()
