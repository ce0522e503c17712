"""Workload by workload: what it needs and which machine it would get."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from kip.choose.manifests import Workload
from kip.model.offer import Offer
from kip.model.quantity import GIB, QuantityError
from kip.model.requirements import Requirements
from kip.pods import eligibility
from kip.pods.annotations import InvalidAnnotationError, unknown, without_effect
from kip.pods.requirements import Known, requirements
from kip.selection.candidates import Candidate
from kip.selection.choose import Choice, Chooser, Constraints, NoFit

# What the EKS images have; a cell's volume is never smaller.
_IMAGE_VOLUME_BYTES = 20 * GIB


@dataclass(frozen=True)
class Row:
    """An instance type in all zones where it costs the same."""

    offer: Offer
    """In the first of them."""
    zones: tuple[str, ...]
    candidate: Candidate


@dataclass(frozen=True)
class Answer:
    """What is to be said about one workload."""

    workload: Workload
    refused: str = ""
    """Why it would get no cell, whatever machines there are."""
    warnings: tuple[str, ...] = ()
    """What is not as its author may think, and keeps no cell from it."""
    needs: Requirements | None = None
    """None when the pod says it in a way that cannot be read."""
    outcome: Choice | NoFit | None = None
    rows: tuple[Row, ...] = ()
    """Best first."""
    volume_gib: int = 0

    @property
    def good(self) -> bool:
        """Whether it would get a cell."""
        return not self.refused and isinstance(self.outcome, Choice)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What holds for all workloads."""

    chooser: Chooser
    constraints: Constraints
    default_volume_bytes: int
    known: Known
    allow_daemon_sets: bool
    most: int
    """Rows of a ranking, for each market."""
    by_name: Mapping[str, Candidate]

    def answer(self, workload: Workload) -> Answer:
        """Which machine it would get."""
        refused = self._refusal(workload)
        warnings = (*without_effect(workload.pod), *unknown(workload.pod))
        try:
            needs = requirements(workload.pod, self.known)
        except (InvalidAnnotationError, QuantityError) as error:
            return Answer(workload, refused or str(error), warnings)
        outcome = self.chooser.choose(needs, self.constraints)
        rows = self._rows(outcome.offers) if isinstance(outcome, Choice) else ()
        volume = max(needs.volume_bytes, self.default_volume_bytes, _IMAGE_VOLUME_BYTES)
        return Answer(workload, refused, warnings, needs, outcome, rows, -(-volume // GIB))

    def _refusal(self, workload: Workload) -> str:
        node = "kip"
        bound = {**workload.pod, "spec": {**workload.pod["spec"], "nodeName": node}}
        verdict = eligibility.judge(bound, nodes=(node,), allow_daemon_sets=self.allow_daemon_sets)
        return verdict.message if verdict.action == "refuse" else ""

    def _rows(self, offers: tuple[Offer, ...]) -> tuple[Row, ...]:
        alike: dict[tuple[str, str, float | None], list[Offer]] = {}
        for offer in offers:
            alike.setdefault((offer.instance_type.name, offer.market, offer.usd_per_hour), []).append(offer)
        shown: Counter[str] = Counter()
        rows = []
        for (name, market, _), group in alike.items():
            shown[market] += 1
            if shown[market] <= self.most:
                rows.append(Row(group[0], tuple(offer.zone for offer in group), self.by_name[name]))
        return tuple(rows)
