"""Conditions in the shape of metav1.Condition; the Cell's state machine is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from kip.model.clock import from_rfc3339, to_rfc3339

Status = Literal["True", "False", "Unknown"]


@dataclass(frozen=True)
class Condition:
    """One aspect of an object: settled (True or False) or not yet (Unknown), since when and why."""

    type: str
    status: Status
    reason: str
    message: str
    last_transition: datetime

    @property
    def is_true(self) -> bool:
        return self.status == "True"


@dataclass(frozen=True)
class Conditions:
    """An immutable set of conditions, one of each type, in the order they were first set."""

    items: tuple[Condition, ...] = ()

    def get(self, kind: str) -> Condition | None:
        return next((c for c in self.items if c.type == kind), None)

    def is_true(self, kind: str) -> bool:
        found = self.get(kind)
        return found is not None and found.is_true

    def since(self, kind: str) -> datetime | None:
        """When the condition last changed its status; None if it was never set."""
        found = self.get(kind)
        return found.last_transition if found else None

    def set(self, kind: str, status: Status, reason: str, message: str, *, now: datetime) -> Conditions:
        """The set with this condition; the transition time moves only when the status does."""
        old = self.get(kind)
        since = old.last_transition if old and old.status == status else now
        new = Condition(kind, status, reason, message, since)
        if old is None:
            return replace(self, items=(*self.items, new))
        return replace(self, items=tuple(new if c.type == kind else c for c in self.items))

    def without(self, *kinds: str) -> Conditions:
        return replace(self, items=tuple(c for c in self.items if c.type not in kinds))

    def to_list(self) -> list[dict[str, Any]]:
        return [
            {
                "type": c.type,
                "status": c.status,
                "reason": c.reason,
                "message": c.message,
                "lastTransitionTime": to_rfc3339(c.last_transition),
            }
            for c in self.items
        ]

    @classmethod
    def from_list(cls, items: list[Mapping[str, Any]]) -> Conditions:
        return cls(
            tuple(
                Condition(
                    type=i["type"],
                    status=i["status"],
                    reason=i.get("reason", ""),
                    message=i.get("message", ""),
                    last_transition=from_rfc3339(i["lastTransitionTime"]),
                )
                for i in items
            )
        )
