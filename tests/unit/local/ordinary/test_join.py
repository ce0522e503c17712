"""Whose certificate request is approved, and when the node is ready."""

from typing import Any

import pytest

from kip.local.ordinary.join import approved, unready


def request(**changes: Any) -> dict[str, Any]:
    spec = {"username": "system:node:node-0", "signerName": "kubernetes.io/kubelet-serving", "request": "abc"}
    return {"metadata": {"name": "csr-1"}, "spec": {**spec, **changes}, "status": {}}


def test_the_nodes_own_request_is_approved_as_it_is() -> None:
    found = approved(request())
    assert found
    assert found["spec"] == request()["spec"]
    assert [condition["type"] for condition in found["status"]["conditions"]] == ["Approved"]


@pytest.mark.parametrize(
    "other",
    [
        request(username="system:node:node-1"),
        request(username="kubernetes-admin"),
        request(signerName="kubernetes.io/kube-apiserver-client"),
        {**request(), "status": {"conditions": [{"type": "Denied"}]}},
        {**request(), "status": {"conditions": [{"type": "Approved"}], "certificate": "x"}},
    ],
)
def test_no_other_request_is(other: dict[str, Any]) -> None:
    assert approved(other) is None


def node(status: str) -> dict[str, Any]:
    ready = {"type": "Ready", "status": status, "reason": "KubeletNotReady", "message": "cni not ready"}
    return {"status": {"conditions": [{"type": "DiskPressure", "status": "False"}, ready]}}


def test_a_node_is_ready_when_it_says_so() -> None:
    assert unready(node("True")) is None
    assert unready(node("False")) == "KubeletNotReady: cni not ready"
    assert unready({"status": {}}) == "it has not told its state"
    assert unready(None) == "it has not registered"
