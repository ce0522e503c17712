"""Label selectors (metav1.LabelSelector), and the expressions that they share with node affinity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kip.model.placement import Rule
from kip.pods.tree import entries, items


def rule_of(expression: Mapping[str, Any]) -> Rule:
    """One of `matchExpressions`, of a label selector or of a node selector's term."""
    values = tuple(str(value) for value in expression.get("values") or ())
    return Rule(expression["key"], expression["operator"], values)


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether it selects an object with these labels; none selects nothing, an empty one everything."""
    if selector is None:
        return False
    return all(labels.get(key) == value for key, value in entries(selector, "matchLabels").items()) and all(
        rule_of(expression).allows(labels.get(expression["key"]))
        for expression in items(selector, "matchExpressions")
    )
