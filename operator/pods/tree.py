"""Reading decoded JSON in which anything optional may be missing or null."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: A pod as the API server sends it.
Pod = Mapping[str, Any]


def dig(value: Any, *path: str) -> Any:
    """The value at `path`; None where a step of it is missing or null."""
    for key in path:
        if value is None:
            return None
        value = value.get(key)
    return value


def items(value: Any, *path: str) -> Iterator[Any]:
    """The entries of the list at `path`; none where it is missing or null."""
    yield from dig(value, *path) or ()


def entries(value: Any, *path: str) -> Mapping[str, Any]:
    """The object at `path`; an empty one where it is missing or null."""
    found: Mapping[str, Any] = dig(value, *path) or {}
    return found
