"""Which zones a pod's machine can be in, and which of them are better than others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from kip.model.placement import ZONE, Term
from kip.model.requirements import Requirements
from kip.selection.labels import allows_zone


@dataclass(frozen=True, slots=True)
class Zones:
    """The answer: better zones come first, those that are equally good stand together."""

    tiers: tuple[tuple[str, ...], ...] = ()
    problem: str = ""
    """Why there is none."""

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(zone for tier in self.tiers for zone in tier)


def zones_for(needs: Requirements, configured: tuple[str, ...]) -> Zones:
    """`configured` are those with a subnet, preferred ones first.

    Volumes, selectors and required spread exclude zones. A wish to be spread only orders them, but before any price: so
    do Karpenter and the scheduler, who count such a wish as long as it can be had.
    """
    if not configured:
        return Zones(problem="no subnet is configured in which a cell could be")
    can_be = f"and cells can be in {', '.join(configured)}"
    eligible = [zone for zone in configured if _allowed(needs.terms, zone)]
    if not eligible:
        rules = ", ".join(
            dict.fromkeys(str(rule) for term in needs.terms for rule in term if rule.label in ZONE)
        )
        return Zones(problem=f"the pod's node selector or affinity wants {rules}, {can_be}")
    found = [zone for zone in eligible if needs.volume_zones is None or zone in needs.volume_zones]
    if not found:
        there = ", ".join(sorted(needs.volume_zones or ())) or "no zone in common"
        return Zones(problem=f"the pod's volumes are in {there}, {can_be}")
    found = [zone for zone in found if all(spread.allows(zone, eligible) for spread in needs.spreads)]
    if not found:
        return Zones(problem=_no_spread(needs, eligible))
    return Zones(_tiers(needs, found, eligible))


def _allowed(terms: tuple[Term, ...], zone: str) -> bool:
    return not terms or any(allows_zone(term, zone) for term in terms)


def _tiers(needs: Requirements, found: Iterable[str], eligible: list[str]) -> tuple[tuple[str, ...], ...]:
    wishes = [spread for spread in needs.spreads if not spread.required]
    if not wishes:
        return (tuple(found),)

    def skew(zone: str) -> int:
        return sum(spread.skew(zone, eligible) for spread in wishes)

    # sorted() keeps the configured order among equals.
    return tuple(tuple(tier) for _, tier in groupby(sorted(found, key=skew), key=skew))


def _no_spread(needs: Requirements, eligible: list[str]) -> str:
    spread = next(s for s in needs.spreads if s.required)
    counts = ", ".join(f"{zone} {spread.counts.get(zone, 0)}" for zone in eligible)
    return (
        f"no zone is left by the pod's topology spread (maxSkew {spread.max_skew}); its like are in: {counts}"
    )
