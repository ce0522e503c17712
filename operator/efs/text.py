"""What `kip efs` tells: plans for people, and everything for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

from kip.cloud.efs import FileSystem
from kip.efs.plan import Plan, Step, incomplete
from kip.efs.removal import Removal
from kip.efs.waiting import Outcome

_STATUS_WORDS = {"keep": "there", "create": "missing", "change": "differs"}


def planned(plan: Plan) -> str:
    """What would be done."""
    return "\n".join((*_rows((step.action, step, step.why) for step in plan.steps), *remarks(plan)))


def present(plan: Plan, system: FileSystem | None, endpoint: str) -> str:
    """What there is, of a plan to make the rest."""
    rows = ((_STATUS_WORDS[step.action], step, step.state or step.why) for step in plan.steps)
    lines = [*_rows(rows), *remarks(plan)]
    if system:
        lines.append(f"{system.size_bytes / 1e9:.1f} GB in {system.id}, as last metered; endpoint {endpoint}")
    missing = len(list(incomplete(plan)))
    lines.append(f"{missing} to do: kip efs setup" if missing else "complete")
    return "\n".join(lines)


def removed(plan: Removal, *, refused: bool) -> str:
    """What would be taken away, and what would stay."""
    rows: list[tuple[str, ...]] = [(s.action, s.kind, s.name, s.id, s.why) for s in plan.steps]
    rows += [("leave", one.kind, "", one.id, one.why) for one in plan.left]
    lines = [*_columns(rows), *(f"note: {note}" for note in plan.notes)]
    lines += [f"{'refused' if refused else 'warning'}: {why}" for why in plan.refusals]
    if refused:
        lines.append("--force does it nevertheless")
    return "\n".join(lines if plan.steps else (*lines, "nothing to remove"))


def remarks(plan: Plan) -> Iterator[str]:
    """What else there is to say about a plan."""
    yield from (f"note: {note}" for note in plan.notes)
    yield from (f"refused: {why}" for why in plan.refusals)


def failures(outcome: Outcome) -> Iterator[str]:
    """What was not done, and why."""
    for step, why in outcome.failed:
        yield f"not done: {step.kind} {step.name}: {why}"


def to_use(endpoint: str) -> str:
    """The end of a set-up: what to write where."""
    return f"""
For deploy.sh:
export NFS_VOLUME_ENDPOINT={endpoint}

For provider.yaml:
cells:
  imageCache:
    endpoint: {endpoint}"""


def as_json(plan: Plan, outcome: Outcome | None = None) -> dict[str, object]:
    """A plan and what became of it."""
    told: dict[str, object] = {
        "refused": bool(plan.refusals),
        "reasons": list(plan.refusals),
        "notes": list(plan.notes),
        "steps": [asdict(step) for step in plan.steps],
    }
    if isinstance(plan, Removal):
        told["left"] = [asdict(one) for one in plan.left]
    if outcome is not None:
        told["done"] = [asdict(step) for step in outcome.done]
        told["failed"] = _with_reasons(outcome.failed)
        told["leftOut"] = _with_reasons(outcome.skipped)
    return told


def _with_reasons(steps: Sequence[tuple[Step, str]]) -> list[dict[str, str]]:
    return [{**asdict(step), "error": why} for step, why in steps]


def _rows(rows: Iterable[tuple[str, Step, str]]) -> Iterator[str]:
    return _columns([(word, step.kind, step.name, step.id, more) for word, step, more in rows])


def _columns(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Each as wide as the widest that is in it."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {text.rstrip()}"
