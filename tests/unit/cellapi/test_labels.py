"""The labels of a cell's Node: true of the machine, and never a reason to refuse the pod."""

from __future__ import annotations

from typing import Any

import pytest

from kip.cellapi.labels import node_labels
from kip.pods.nodeaffinity import allows

ARCH, TYPE, ZONE = "kubernetes.io/arch", "node.kubernetes.io/instance-type", "topology.kubernetes.io/zone"
VIRTUAL = {"type": "virtual-kubelet", ARCH: "amd64", ZONE: "us-east-1"}
MACHINE = {ARCH: "arm64", TYPE: "m7g.large", ZONE: "us-east-1b"}


def pod(selector: dict[str, str] | None = None, *rules: dict[str, Any]) -> dict[str, Any]:
    required = {"nodeSelectorTerms": [{"matchExpressions": list(rules)}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}} if rules else {}
    return {"spec": {"nodeSelector": selector or {}, "affinity": affinity}}


def shown(subject: dict[str, Any]) -> dict[str, str]:
    return node_labels(VIRTUAL, MACHINE, subject, node_name="kip-0")


def test_the_machine_is_described() -> None:
    assert shown(pod({"type": "virtual-kubelet"})) == {"type": "virtual-kubelet", **MACHINE}
    assert shown(pod({ARCH: "arm64"}))[ARCH] == "arm64", (
        "bound without the scheduler, to the machine it asks for"
    )


@pytest.mark.parametrize(
    "subject",
    [
        pod({ARCH: "amd64"}),
        pod({ZONE: "us-east-1"}),
        pod(None, {"key": TYPE, "operator": "DoesNotExist"}),
        pod({"type": "virtual-kubelet"}, {"key": ZONE, "operator": "NotIn", "values": ["us-east-1b"]}),
    ],
)
def test_who_would_be_refused_for_it_gets_the_virtual_nodes_word_in_what_it_names(subject: Any) -> None:
    assert allows(subject, VIRTUAL, node_name="kip-0"), "the scheduler has bound it"
    found = shown(subject)
    assert allows(subject, found, node_name="kip-0")
    differing = {key for key in MACHINE if found.get(key) != MACHINE[key]}
    assert len(differing) == 1, "and the machine's in all else"
