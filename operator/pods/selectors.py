"""Label selectors (metav1.LabelSelector)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kip.pods.tree import entries, items


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether it selects an object with these labels; none selects nothing, an empty one everything."""
    if selector is None:
        return False
    return all(labels.get(key) == value for key, value in entries(selector, "matchLabels").items()) and all(
        _matches(expression, labels) for expression in items(selector, "matchExpressions")
    )


def _matches(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case _:  # DoesNotExist; the API server lets nothing else through
            return value is None
