"""What the doctor says: one line about one thing, and how it is mended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["ok", "warning", "failure", "unknown"]

#: The worst first.
STATUSES: tuple[Status, ...] = ("failure", "unknown", "warning", "ok")


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """What mends it; at least one of the three is given."""

    text: str = ""
    """What to do, in words."""
    command: str = ""
    """For a shell."""
    statements: tuple[Mapping[str, Any], ...] = ()
    """For the IAM policy of Kip's role."""


@dataclass(frozen=True)
class Finding:
    """One line."""

    status: Status
    what: str
    """What was looked at."""
    why: str
    """What was seen."""
    remedy: Remedy | None = None


def ok(what: str, why: str) -> Finding:
    """It is as it should be."""
    return Finding("ok", what, why)


def warning(what: str, why: str, remedy: Remedy | None = None) -> Finding:
    """Kip works, with less than it could."""
    return Finding("warning", what, why, remedy)


def failure(what: str, why: str, remedy: Remedy | None = None) -> Finding:
    """Pods get no cells, or no working ones."""
    return Finding("failure", what, why, remedy)


def unknown(what: str, why: str, remedy: Remedy | None = None) -> Finding:
    """It could not be found out, and why."""
    return Finding("unknown", what, why, remedy)
