"""What handlers get from the rest of the operator: small protocols, no concrete classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

Object = dict[str, Any]


class Sightings(Protocol):
    """Takes note of objects that a watch has seen. Called in the operator's own event loop."""

    def pod(self, kind: str | None, obj: Object) -> None:
        """A pod of the virtual node: `kind` is ADDED, MODIFIED, DELETED, or None for an object of a list."""
        ...

    def cell(self, kind: str | None, obj: Object) -> None: ...

    def node(self, kind: str | None, obj: Object) -> None: ...


@dataclass(frozen=True)
class Context:
    """Passed to every handler as kopf's memo."""

    sightings: Sightings
    post: Callable[[Callable[[str | None, Object], None], str | None, Object], None]
    """Calls a function with an event in the operator's event loop: kopf runs in a thread of its own."""

    def __copy__(self) -> Context:
        """kopf copies the memo for each object; this one is shared by all."""
        return self
