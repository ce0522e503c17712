"""Architectures that a pod allows."""

from __future__ import annotations

from typing import Any

import pytest

from kip.pods.placement import architectures

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
