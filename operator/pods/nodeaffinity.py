"""A pod's node selector and required node affinity against the labels of a node, as scheduler and kubelet compare them.

The rules are those of component-helpers' `nodeaffinity.GetRequiredNodeAffinity`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kip.pods.selectors import rule_of
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
        all(rule_of(e).allows(labels.get(e["key"])) for e in of_labels)
        # metadata.name is the only field there is.
        and all(rule_of(e).allows(node_name) for e in of_fields)
    )
