"""Findings for a terminal, and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from kip.doctor.checks.remedies import as_json
from kip.doctor.finding import STATUSES, Remedy, Status
from kip.doctor.table import Line

_WIDTH = max(map(len, STATUSES))


def lines(found: Sequence[Line]) -> Iterator[str]:
    """One line for each finding, and below it what mends it; the same thing to do is told once."""
    section, told = "", set[str]()
    for line in found:
        if line.check.section != section:
            section = line.check.section
            yield section
        finding = line.finding
        yield f"  {finding.status:<{_WIDTH}}  {finding.what}: {finding.why}"
        if finding.remedy is not None:
            yield from (f"  {'':<{_WIDTH}}    {text}" for text in _remedy(finding.remedy, told))
    yield summary(found)


def _remedy(remedy: Remedy, told: set[str]) -> Iterator[str]:
    """What has been told before is left out."""
    parts = [f"mend: {remedy.text}"] if remedy.text else []
    parts += [f"statement: {as_json(statement)}" for statement in remedy.statements]
    parts += [f"$ {remedy.command}"] if remedy.command else []
    for part in parts:
        if part not in told:
            told.add(part)
            yield part


def counts(found: Sequence[Line]) -> dict[Status, int]:
    """How many there are of each, the worst first."""
    counted = Counter(line.finding.status for line in found)
    return {status: counted[status] for status in STATUSES}


def summary(found: Sequence[Line]) -> str:
    """The last line."""
    counted = counts(found)
    plural = {"failure": "failures", "warning": "warnings"}
    numbers = ", ".join(
        f"{number} {status if number == 1 else plural.get(status, status)}"
        for status, number in counted.items()
        if number
    )
    if counted["failure"]:
        return f"{numbers}; begin with the first failure: what comes after it may follow from it"
    return numbers


def document(found: Sequence[Line]) -> dict[str, Any]:
    """The same for programs."""
    return {
        "counts": counts(found),
        "findings": [
            {
                "check": line.check.id,
                "status": line.finding.status,
                "what": line.finding.what,
                "why": line.finding.why,
                "remedy": _as_object(line.finding.remedy),
            }
            for line in found
        ],
    }


def _as_object(remedy: Remedy | None) -> dict[str, Any] | None:
    if remedy is None:
        return None
    return {"text": remedy.text, "command": remedy.command, "statements": list(remedy.statements)}
