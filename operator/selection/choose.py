"""A pod's requirements and a catalogue → offers to ask EC2 for, best first, or why there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from kip.model.instance_type import InstanceType
from kip.model.offer import Offer
from kip.model.requirements import Market, Requirements
from kip.selection.candidates import Candidate, candidates
from kip.selection.filters import KIND, SIZE, Filtered, apply, is_pattern
from kip.selection.ranking import ranked

#: (instance type, zone, market) → why EC2 did not give it lately.
Unavailable = Mapping[tuple[str, str, Market], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What holds for every pod."""

    zones: tuple[str, ...]
    """Zones that cells may be in, preferred ones first."""
    default_instance_type: str
    """For pods that ask for nothing."""
    max_offers: int = 20
    """More alternatives than a pod will ever try one after another."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Instance types that are out, and why."""

    reason: str
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """What to ask EC2 for."""

    offers: tuple[Offer, ...]
    """Best first; at least one."""
    fitting: int
    """Instance types that fit."""
    considered: int
    """Instance types in the catalogue."""
    outcomes: tuple[Filtered, ...]
    note: str = ""
    """What the pod's owner should know about the choice; mostly empty."""

    @property
    def rejected(self) -> tuple[Rejection, ...]:
        """Every type that does not fit, by reason."""
        return _rejections(self.outcomes)

    def __str__(self) -> str:
        best, *others = self.offers
        types = list(dict.fromkeys(offer.instance_type.name for offer in others))
        more = [name for name in types if name != best.instance_type.name][:3]
        next_ones = f"; next would be {', '.join(more)}" if more else ""
        note = f" ({self.note})" if self.note else ""
        return f"chose {best}{note}; {self.fitting:,} of {self.considered:,} types fit{next_ones}"


@dataclass(frozen=True, slots=True)
class NoFit:
    """There is nothing to ask EC2 for."""

    reason: str
    """`NoInstanceFits`: the pod or the configuration must change. `NoInstanceAvailable`: time may help."""
    message: str
    """A sentence for the pod's events."""
    outcomes: tuple[Filtered, ...] = ()

    @property
    def rejected(self) -> tuple[Rejection, ...]:
        """Every type that does not fit, by reason."""
        return _rejections(self.outcomes)


@dataclass(frozen=True, slots=True)
class _Fits:
    best_first: list[Candidate]
    outcomes: tuple[Filtered, ...]
    note: str = ""


class Chooser:
    """Chooses from one catalogue, which is prepared once."""

    def __init__(self, catalogue: Iterable[InstanceType]) -> None:
        self._candidates = candidates(catalogue)

    def choose(
        self, needs: Requirements, constraints: Constraints, unavailable: Unavailable | None = None
    ) -> Choice | NoFit:
        """The offers for one pod."""
        fits = self._fits(needs, constraints)
        if not fits.best_first:
            return NoFit("NoInstanceFits", fits.outcomes[-1].explain(), fits.outcomes)
        if not constraints.zones:
            return NoFit("NoInstanceFits", "no subnet is configured in which a cell could be", fits.outcomes)
        offers = _offers(fits.best_first, needs.market, constraints, unavailable or {})
        if not offers:
            message = _all_unavailable(fits.best_first, needs.market, constraints, unavailable or {})
            return NoFit("NoInstanceAvailable", message, fits.outcomes)
        return Choice(offers, len(fits.best_first), len(self._candidates), fits.outcomes, fits.note)

    def _fits(self, needs: Requirements, constraints: Constraints) -> _Fits:
        if needs.instance_type is not None and not is_pattern(needs.instance_type):
            return self._named(needs)
        if needs.instance_type is None and not needs.sized:
            return self._default(needs, constraints.default_instance_type)
        outcomes = tuple(apply(KIND + SIZE, self._candidates, needs))
        return _Fits(ranked(outcomes[-1].kept, needs), outcomes)

    def _named(self, needs: Requirements) -> _Fits:
        """A type that the pod names counts whatever the pod requests: that is what naming it is for."""
        outcomes = tuple(apply(KIND, self._candidates, needs))
        found = list(outcomes[-1].kept)
        small = bool(found) and not apply(SIZE, found, needs)[-1].kept
        note = f"as its annotation says, though it leaves less than the {needs} requested" if small else ""
        return _Fits(found, outcomes, note)

    def _default(self, needs: Requirements, default: str) -> _Fits:
        """The configured type; should EC2 have none, types that leave a pod no less than it does."""
        named = self._named(replace(needs, instance_type=default))
        if not named.best_first:
            outcomes = tuple(apply(KIND + SIZE, self._candidates, needs))
            why = named.outcomes[-1].explain()
            return _Fits(ranked(outcomes[-1].kept, needs), outcomes, f"not the default {default}: {why}")
        like = named.best_first[0]
        as_large = replace(needs, cpu_millis=like.cpu_millis, memory_bytes=like.memory_bytes)
        outcomes = tuple(apply(KIND + SIZE, self._candidates, as_large))
        others = [candidate for candidate in ranked(outcomes[-1].kept, needs) if candidate is not like]
        return _Fits([like, *others], outcomes, "the default, as the pod requests nothing")


def choose(
    needs: Requirements,
    catalogue: Iterable[InstanceType],
    constraints: Constraints,
    unavailable: Unavailable | None = None,
) -> Choice | NoFit:
    """The offers for one pod. For many pods and one catalogue make a `Chooser`."""
    return Chooser(catalogue).choose(needs, constraints, unavailable)


def _offers(
    best_first: Iterable[Candidate], market: Market, constraints: Constraints, unavailable: Unavailable
) -> tuple[Offer, ...]:
    offers: list[Offer] = []
    for candidate in best_first:
        # Spot prices differ by zone and hour; the on-demand price, by which types are ranked, is none.
        price = candidate.type.usd_per_hour if market == "on-demand" else None
        offers += [
            Offer(candidate.type, zone, market, price)
            for zone in constraints.zones
            if (candidate.name, zone, market) not in unavailable
        ]
        if len(offers) >= constraints.max_offers:
            break
    return tuple(offers[: constraints.max_offers])


def _all_unavailable(
    found: list[Candidate], market: Market, constraints: Constraints, unavailable: Unavailable
) -> str:
    best, zone = found[0].name, constraints.zones[0]
    count = "the only type that fits" if len(found) == 1 else f"all {len(found):,} types that fit"
    why = unavailable[best, zone, market]
    return f"EC2 had none of {count} lately, in {', '.join(constraints.zones)}; {best} in {zone}, {market}: {why}"


def _rejections(outcomes: Iterable[Filtered]) -> tuple[Rejection, ...]:
    found = ((outcome.reason, tuple(c.name for c in outcome.rejected)) for outcome in outcomes)
    return tuple(Rejection(reason, types) for reason, types in found if types)
