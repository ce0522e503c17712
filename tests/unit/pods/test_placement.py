"""Architectures that a pod allows."""

from __future__ import annotations

from typing import Any

import pytest

from kip.model.placement import Rule
from kip.pods.placement import architectures, markets, terms

ARCH = "kubernetes.io/arch"


def affinity(*terms: list[dict[str, Any]]) -> dict[str, Any]:
    required = {"nodeSelectorTerms": [{"matchExpressions": term} for term in terms]}
    return {
        "spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}
    }


def expression(operator: str, *values: str, key: str = ARCH) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


@pytest.mark.parametrize(
    "pod",
    [
        {},
        {"spec": {"nodeSelector": None, "affinity": None}},
        {"spec": {"nodeSelector": {"type": "virtual-kubelet"}}},
        affinity([expression("In", "virtual-kubelet", key="type")]),
    ],
)
def test_a_pod_that_says_nothing(pod: dict[str, Any]) -> None:
    assert architectures(pod) is None


@pytest.mark.parametrize("label", [ARCH, "beta.kubernetes.io/arch"])
def test_a_node_selector(label: str) -> None:
    assert architectures({"spec": {"nodeSelector": {label: "arm64"}}}) == {"arm64"}


@pytest.mark.parametrize(
    ("terms", "allowed"),
    [
        ([[expression("In", "arm64", "s390x")]], {"arm64"}),
        ([[expression("In", "amd64", "arm64")]], {"amd64", "arm64"}),
        ([[expression("NotIn", "arm64")]], {"amd64"}),
        ([[expression("Exists")]], {"amd64", "arm64"}),
        ([[expression("DoesNotExist")]], set()),
        ([[expression("In", "s390x")]], set()),
        ([[expression("In", "amd64", "arm64"), expression("NotIn", "amd64")]], {"arm64"}),
        ([[expression("In", "arm64")], [expression("In", "amd64")]], {"amd64", "arm64"}),
        ([[expression("In", "arm64")], [expression("In", "x", key="zone")]], {"amd64", "arm64"}),
    ],
)
def test_node_affinity(terms: list[list[dict[str, Any]]], allowed: set[str]) -> None:
    assert architectures(affinity(*terms)) == allowed


def test_both_must_hold() -> None:
    pod = affinity([expression("In", "amd64", "arm64")])
    pod["spec"]["nodeSelector"] = {ARCH: "arm64"}
    assert architectures(pod) == {"arm64"}


def test_what_is_preferred_does_not_bind() -> None:
    preference = {"weight": 1, "preference": {"matchExpressions": [expression("In", "arm64")]}}
    pod = {
        "spec": {
            "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preference]}}
        }
    }
    assert architectures(pod) is None


ZONE = "topology.kubernetes.io/zone"


def test_only_labels_of_machines_count() -> None:
    pod = affinity([expression("In", "a", key=ZONE), expression("In", "x", key="team")])
    pod["spec"]["nodeSelector"] = {"type": "virtual-kubelet", "node.kubernetes.io/instance-type": "m7i.large"}
    assert terms(pod) == (
        (Rule("node.kubernetes.io/instance-type", "In", ("m7i.large",)), Rule(ZONE, "In", ("a",))),
    )


def test_terms_are_alternatives_and_the_selector_holds_in_each() -> None:
    pod = affinity([expression("In", "a", key=ZONE)], [expression("NotIn", "b", key=ZONE)])
    pod["spec"]["nodeSelector"] = {ARCH: "arm64"}
    arm = Rule(ARCH, "In", ("arm64",))
    assert terms(pod) == ((arm, Rule(ZONE, "In", ("a",))), (arm, Rule(ZONE, "NotIn", ("b",))))


def test_an_alternative_that_allows_everything_makes_the_others_idle() -> None:
    assert terms(affinity([expression("In", "a", key=ZONE)], [expression("In", "x", key="team")])) == ()


def test_who_wants_no_karpenter_node_gets_a_cell() -> None:
    assert terms(affinity([expression("DoesNotExist", key="karpenter.sh/capacity-type")])) == ()


def test_the_first_kips_gpu_label_says_its_kind_by_being_there() -> None:
    pod = {"spec": {"nodeSelector": {"node.elotl.co/gpu-t4": ""}}}
    assert terms(pod) == ((Rule("node.elotl.co/gpu-t4", "Exists"),),)


def test_numbers_are_compared() -> None:
    pod = affinity([expression("Gt", "5", key="karpenter.k8s.aws/instance-generation")])
    assert terms(pod) == ((Rule("karpenter.k8s.aws/instance-generation", "Gt", ("5",)),),)


def test_markets() -> None:
    assert markets(()) is None
    assert markets(((Rule(ZONE, "Exists"),),)) is None
    assert markets(((Rule("karpenter.sh/capacity-type", "In", ("spot", "x")),),)) == {"spot"}
    assert markets(((Rule("eks.amazonaws.com/capacityType", "NotIn", ("SPOT",)),),)) == {"on-demand"}
    assert markets(((Rule("eks.amazonaws.com/capacityType", "In", ("spot",)),),)) == frozenset()
