"""Answers for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kip.choose.answers import Answer, Row
from kip.model.quantity import MIB, format_millis, human_bytes
from kip.model.requirements import Part, Requirements
from kip.selection.candidates import Candidate
from kip.selection.choose import Choice, NoFit, Rejection
from kip.selection.ranking import OLD_GENERATION_FACTOR

#: Types that stand for all that are rejected for one reason.
_EXAMPLES = 3


def lines(answer: Answer, *, region: str, zones: Sequence[str], explain: bool) -> Iterator[str]:
    """All that is said about one workload."""
    workload, needs = answer.workload, answer.needs
    count = f", {workload.count} pods" if workload.count != 1 else ""
    yield f"{workload}{count}: {needs if needs is not None else 'cannot be read'}"
    if answer.refused:
        yield from (f"  would get no cell: {line}" for line in answer.refused.splitlines())
    yield from (f"  warning: {line}" for line in answer.warnings)
    if needs is None or answer.outcome is None:
        return
    yield f"  {answer.outcome}"
    if answer.rows:
        yield ""
        yield from (f"  {line}" for line in _table(answer.rows, region, zones))
        yield from (f"  {line}" for line in _footnotes(answer.rows))
        yield ""
        yield f"  of {answer.rows[0].candidate.name} {_kept(answer.rows[0].candidate)}"
        yield f"  root volume {answer.volume_gib}Gi"
    if explain:
        yield from _explained(needs, answer.outcome)


def _table(rows: Sequence[Row], region: str, zones: Sequence[str]) -> Iterator[str]:
    gpus = any(row.candidate.type.gpus for row in rows)
    head = [
        "TYPE",
        "LAUNCH",
        "USD/HOUR",
        "CPUS",
        "LEFT",
        "MEMORY",
        "LEFT",
        *(["GPUS"] if gpus else []),
        "ZONES",
    ]
    table = [head, *(_cells(row, region, zones, gpus) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(head))]
    left = {0, 1, len(head) - 1} | ({len(head) - 2} if gpus else set())
    for line in table:
        cells = (
            c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def _cells(row: Row, region: str, zones: Sequence[str], gpus: bool) -> list[str]:
    kind = row.candidate.type
    shown = f"{kind.gpus} {kind.gpu_name}" if kind.gpus else ""
    return [
        kind.name,
        row.offer.launch_type,
        _price(row),
        str(kind.vcpus),
        f"{row.candidate.cpu_millis / 1000:g}",
        human_bytes(kind.memory_mib * MIB),
        human_bytes(max(row.candidate.memory_bytes, 0)),
        *([shown] if gpus else []),
        "all" if set(row.zones) == set(zones) else " ".join(zone.removeprefix(region) for zone in row.zones),
    ]


def _price(row: Row) -> str:
    """`~` marks the on-demand price in the place of one that is not known; CPU credits come after a plus sign."""
    offer = row.offer
    base = offer.usd_per_hour if offer.usd_per_hour is not None else offer.instance_type.usd_per_hour
    if base is None:
        return "unknown"
    surplus = f"+{offer.surplus_usd_per_hour:.3g}" if offer.surplus_usd_per_hour else ""
    return f"{'' if offer.usd_per_hour is not None else '~'}{base:.4g}{surplus}"


def _footnotes(rows: Sequence[Row]) -> Iterator[str]:
    """What the signs in the table mean, and what its order does not show."""
    if any(row.offer.usd_per_hour is None and row.offer.ranked_usd is not None for row in rows):
        yield "~ the on-demand price, as the price itself is not known"
    if any(row.offer.surplus_usd_per_hour for row in rows):
        yield "+ CPU credits, if the pod always uses the CPU that it requests"
    old = dict.fromkeys(row.candidate.name for row in rows if not row.candidate.type.current_generation)
    if old:
        dearer = round((OLD_GENERATION_FACTOR - 1) * 100)
        yield f"of a previous generation, ranked as if {dearer} % dearer: {', '.join(old)}"


def _kept(candidate: Candidate) -> str:
    kept = candidate.reserve
    return (
        f"the machine keeps {format_millis(kept.cpu_millis)} CPU and {human_bytes(kept.memory_bytes)} memory: "
        f"{human_bytes(kept.vm_memory_bytes)} hypervisor and kernel, {human_bytes(kept.kube_memory_bytes)} kubelet "
        f"and system, {human_bytes(kept.eviction_memory_bytes)} until eviction"
    )


def _explained(needs: Requirements, outcome: Choice | NoFit) -> Iterator[str]:
    if needs.parts:
        yield ""
        yield "  what is needed:"
        yield from (f"    {part.source}: {_amounts(part)}" for part in needs.parts)
    if outcome.rejected:
        yield ""
        yield "  types that do not fit:"
        width = max(len(f"{len(rejection.types):,}") for rejection in outcome.rejected)
        yield from (f"    {len(r.types):>{width},} {r.reason}: {_examples(r)}" for r in outcome.rejected)


def _amounts(part: Part) -> str:
    amounts = (
        f"{format_millis(part.cpu_millis)} CPU" if part.cpu_millis else "",
        f"{human_bytes(part.memory_bytes)} memory" if part.memory_bytes else "",
        f"{human_bytes(part.huge_pages_bytes)} huge pages" if part.huge_pages_bytes else "",
        f"{part.gpus} GPU" if part.gpus else "",
        f"{human_bytes(part.volume_bytes)} volume" if part.volume_bytes else "",
    )
    return ", ".join(filter(None, amounts))


def _examples(rejection: Rejection) -> str:
    if rejection.instead:
        shown = [f"{name} {has}" for name, has in list(rejection.instead.items())[:_EXAMPLES]]
    else:
        shown = list(rejection.types[:_EXAMPLES])
    more = ", …" if len(rejection.types) > _EXAMPLES else ""
    return ", ".join(shown) + more
