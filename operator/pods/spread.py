"""How a pod wants to be spread over zones with its like (`topologySpreadConstraints`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kip.model.placement import ZONE
from kip.model.spread import ZoneSpread
from kip.pods.selectors import matches
from kip.pods.tree import Pod, entries, items


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another pod of the same namespace that has, or is about to get, a machine in a zone."""

    labels: Mapping[str, str]
    zone: str


def zone_spreads(pod: Pod, neighbours: Iterable[Neighbour] = ()) -> tuple[ZoneSpread, ...]:
    """The pod's constraints over zones, with the neighbours that each counts."""
    others, labels = tuple(neighbours), entries(pod, "metadata", "labels")
    return tuple(
        _spread(constraint, labels, others)
        for constraint in items(pod, "spec", "topologySpreadConstraints")
        if constraint.get("topologyKey") in ZONE
    )


def _spread(
    constraint: Mapping[str, Any], labels: Mapping[str, str], neighbours: tuple[Neighbour, ...]
) -> ZoneSpread:
    selector = constraint.get("labelSelector")
    # The API server merges these keys into the selector from 1.34 on; before, the scheduler does.
    alike = [key for key in constraint.get("matchLabelKeys") or () if key in labels]

    def counts(other: Mapping[str, str]) -> bool:
        return matches(selector, other) and all(other.get(key) == labels[key] for key in alike)

    return ZoneSpread(
        max_skew=constraint.get("maxSkew", 1),
        required=constraint.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule",
        min_domains=constraint.get("minDomains") or 1,
        counts_itself=counts(labels),
        counts=dict(Counter(other.zone for other in neighbours if counts(other.labels))),
    )
