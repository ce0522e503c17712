"""The mappings that YAML makes of provider.yaml, before it is known whether they are right."""

from __future__ import annotations

from typing import Any

from kip.config.problems import KeyPath


def section(data: Any, path: KeyPath) -> dict[Any, Any] | None:
    """The mapping at `path`; None when there is none."""
    for step in path:
        data = data.get(step) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else None


def ensure_section(data: dict[Any, Any], path: KeyPath) -> dict[Any, Any] | None:
    """The mapping at `path`, made where nothing is; None where something else is, which is reported as wrong anyway."""
    found = data
    for step in path:
        if found.get(step) is None:
            found[step] = {}
        if not isinstance(found[step], dict):
            return None
        found = found[step]
    return found
