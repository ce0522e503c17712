"""A pod's node selector and required node affinity against the labels of a node, as scheduler and kubelet compare them.

The rules are those of component-helpers' `nodeaffinity.GetRequiredNodeAffinity`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kip.pods.tree import Pod, dig, entries, items

_REQUIRED = ("spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")


def allows(pod: Pod, labels: Mapping[str, str], *, node_name: str) -> bool:
    """Whether a node of this name, with these labels, is one that the pod may be on."""
    if any(labels.get(key) != value for key, value in entries(pod, "spec", "nodeSelector").items()):
        return False
    if dig(pod, *_REQUIRED) is None:
        return True
    return any(_term_allows(term, labels, node_name) for term in items(pod, *_REQUIRED, "nodeSelectorTerms"))


def named_labels(pod: Pod) -> frozenset[str]:
    """The labels that its selector and required affinity speak of."""
    return frozenset(_named(pod))


def _named(pod: Pod) -> Iterator[str]:
    yield from entries(pod, "spec", "nodeSelector")
    for term in items(pod, *_REQUIRED, "nodeSelectorTerms"):
        yield from (expression["key"] for expression in items(term, "matchExpressions"))


def _term_allows(term: Mapping[str, Any], labels: Mapping[str, str], node_name: str) -> bool:
    of_labels, of_fields = [*items(term, "matchExpressions")], [*items(term, "matchFields")]
    # A term without anything selects no node.
    return bool(of_labels or of_fields) and (
        all(_agrees(rule, labels.get(rule["key"])) for rule in of_labels)
        # metadata.name is the only field there is.
        and all(_agrees(rule, node_name) for rule in of_fields)
    )


def _agrees(rule: Mapping[str, Any], value: str | None) -> bool:
    values = rule.get("values") or []
    match rule["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:
            return _compares(rule["operator"], value, values)


def _compares(operator: str, value: str | None, values: list[str]) -> bool:
    try:
        difference = int(value or "") - int(values[0])
    except (ValueError, IndexError):
        return False
    return difference > 0 if operator == "Gt" else difference < 0
