"""The virtual node's own use of resources: the sum over its cells, from the kubelets' `node_*` metrics."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from kip.kubelet.exposition import Family, Merged, families, value_of

_COUNTER_SUFFIX = b"_total"
# Each kubelet says 1 here when it could not measure something; the node as a whole could not if one of them could not.
_ERROR_FLAGS = frozenset({b"scrape_error", b"resource_scrape_error"})


@dataclass(slots=True)
class _Metric:
    """One metric's newest value in each cell, and what is left of cells that are gone."""

    last: dict[str, tuple[float, int | None]] = field(default_factory=dict)
    retired: float = 0.0


class NodeTotals:
    """Sums that a caller may take rates of.

    A counter of the sum must not fall when a cell goes: metrics-server then drops the node's CPU for that turn, and
    cells come and go all the time. What a gone cell has counted therefore stays in the sum; a cell that only did
    not answer this time counts with its newest value. The memory of it dies with the process, as a kubelet's
    counters do.
    """

    def __init__(self) -> None:
        self._metrics: dict[bytes, _Metric] = {}
        self._heads: dict[bytes, list[bytes]] = {}

    def merge(self, answers: Mapping[str, bytes], existing: Collection[str]) -> bytes:
        """One text from the cells' `/metrics/resource`: series of pods as they are, `node_*` added up.

        `answers` by cell; `existing` names all cells there are, also those without an answer.
        """
        merged = Merged()
        seen: set[tuple[bytes, str]] = set()
        for cell, text in answers.items():
            for family in families(text):
                if family.name.startswith(b"node_") or family.name in _ERROR_FLAGS:
                    self._heads.setdefault(family.name, family.head)
                    seen |= {
                        (family.name, cell) for sample in family.samples if self._note(family, cell, sample)
                    }
                else:
                    for sample in family.samples:
                        merged.add_sample(family, sample)
        self._forget(existing, seen)
        for name in sorted(self._metrics):
            if line := self._line(name):
                merged.add_sample(Family(name, self._heads[name]), line)
        return merged.encode()

    def _note(self, family: Family, cell: str, sample: bytes) -> bool:
        found = value_of(sample)
        if found is None:
            return False
        metric = self._metrics.setdefault(family.name, _Metric())
        before = metric.last.get(cell)
        if before is not None and _counts(family.name) and found[0] < before[0]:
            metric.retired += before[0]  # the cell's kubelet began anew
        metric.last[cell] = found
        return True

    def _forget(self, existing: Collection[str], seen: set[tuple[bytes, str]]) -> None:
        for name, metric in self._metrics.items():
            for cell in list(metric.last):
                if cell not in existing:
                    value, _ = metric.last.pop(cell)
                    metric.retired += value if _counts(name) else 0.0
                elif (name, cell) not in seen and name in _ERROR_FLAGS:
                    del metric.last[cell]

    def _line(self, name: bytes) -> bytes:
        metric = self._metrics[name]
        if not metric.last and not metric.retired:
            return b""
        values = [value for value, _ in metric.last.values()]
        total = max(values, default=0.0) if name in _ERROR_FLAGS else sum(values) + metric.retired
        times = [time for _, time in metric.last.values() if time is not None]
        return name + b" " + repr(total).encode() + (f" {max(times)}".encode() if times else b"")


def _counts(name: bytes) -> bool:
    return name.endswith(_COUNTER_SUFFIX)
