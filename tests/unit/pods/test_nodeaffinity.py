"""A pod's selector and required affinity against a node's labels."""

from __future__ import annotations

from typing import Any

import pytest

from kip.pods.nodeaffinity import allows, named_labels

LABELS = {"kubernetes.io/arch": "arm64", "gpus": "4"}


def pod(selector: dict[str, str] | None = None, *terms: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = {"nodeSelector": selector}
    if terms:
        required = {"nodeSelectorTerms": list(terms)}
        spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    return {"spec": spec}


def labels(*rules: tuple[Any, ...]) -> dict[str, Any]:
    return {"matchExpressions": [{"key": k, "operator": o, "values": list(v)} for k, o, *v in rules]}


def verdict(subject: dict[str, Any]) -> bool:
    return allows(subject, LABELS, node_name="kip-0")


def test_who_asks_for_nothing_is_allowed_anywhere() -> None:
    assert verdict(pod())
    assert verdict({"spec": {"affinity": {"nodeAffinity": None}}})
    assert named_labels(pod()) == frozenset()


def test_every_label_of_a_selector_must_agree() -> None:
    assert verdict(pod({"kubernetes.io/arch": "arm64", "gpus": "4"}))
    assert not verdict(pod({"kubernetes.io/arch": "arm64", "gpus": "8"}))
    assert not verdict(pod({"zone": "a"}))


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        (("kubernetes.io/arch", "In", "arm64", "amd64"), True),
        (("kubernetes.io/arch", "In", "amd64"), False),
        (("kubernetes.io/arch", "NotIn", "amd64"), True),
        (("kubernetes.io/arch", "NotIn", "arm64"), False),
        (("zone", "NotIn", "a"), True),
        (("gpus", "Exists"), True),
        (("zone", "Exists"), False),
        (("zone", "DoesNotExist"), True),
        (("gpus", "DoesNotExist"), False),
        (("gpus", "Gt", "3"), True),
        (("gpus", "Gt", "4"), False),
        (("gpus", "Lt", "5"), True),
        (("gpus", "Lt", "4"), False),
        (("zone", "Gt", "1"), False),
        (("gpus", "Gt", "many"), False),
    ],
)
def test_operators(rule: tuple[Any, ...], allowed: bool) -> None:
    assert verdict(pod(None, labels(rule))) is allowed


def test_terms_are_alternatives_whose_rules_must_all_hold() -> None:
    no, yes = ("zone", "Exists"), ("gpus", "Exists")
    assert verdict(pod(None, labels(no), labels(yes)))
    assert not verdict(pod(None, labels(no, yes)))
    assert not verdict(pod({"zone": "a"}, labels(yes))), "and the selector too"
    assert not verdict(pod(None, {})), "a term without anything selects no node"


def test_a_nodes_name_can_be_asked_for() -> None:
    def named(*names: str) -> dict[str, Any]:
        return {"matchFields": [{"key": "metadata.name", "operator": "In", "values": list(names)}]}

    assert verdict(pod(None, named("kip-0")))
    assert not verdict(pod(None, named("node-1")))


def test_what_a_pod_speaks_of() -> None:
    subject = pod({"a": "1"}, labels(("b", "Exists")), labels(("c", "Exists"), ("b", "In", "x")))
    assert named_labels(subject) == {"a", "b", "c"}
