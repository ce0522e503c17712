"""Which architectures a pod's node selector and required node affinity allow.

The scheduler compares them with the virtual node's labels; the machine is chosen by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kip.pods.tree import Pod, entries, items

_LABELS = ("kubernetes.io/arch", "beta.kubernetes.io/arch")
_TERMS = ("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")

#: Architectures that EC2 has machines of.
ARCHITECTURES = frozenset({"amd64", "arm64"})


def architectures(pod: Pod) -> frozenset[str] | None:
    """The architectures that the pod may run on: None if it says nothing, an empty set if it wants others."""
    selected = [value for key, value in entries(pod, "spec", "nodeSelector").items() if key in _LABELS]
    terms = [_expressions(term) for term in items(pod, "spec", *_TERMS)]
    if not selected and not any(terms):
        return None
    return frozenset(
        architecture
        for architecture in ARCHITECTURES
        if all(value == architecture for value in selected)
        # Terms are alternatives; the expressions of one must all hold.
        and (not terms or any(all(_allows(e, architecture) for e in term) for term in terms))
    )


def _expressions(term: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [expression for expression in items(term, "matchExpressions") if expression.get("key") in _LABELS]


def _allows(expression: Mapping[str, Any], architecture: str) -> bool:
    values = expression.get("values") or ()
    match expression.get("operator"):
        case "In":
            return architecture in values
        case "NotIn":
            return architecture not in values
        case "DoesNotExist":
            return False
        case _:  # Exists; Gt and Lt compare numbers, which an architecture is not
            return True
