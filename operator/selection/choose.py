"""A pod's requirements and a catalogue → offers to ask EC2 for, best first, or why there is none."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice

from kip.model.instance_type import InstanceType
from kip.model.market import NOTHING_KNOWN, MarketData
from kip.model.offer import Offer, usd
from kip.model.quantity import MIB
from kip.model.requirements import LaunchType, Market, MarketWish, Requirements
from kip.selection.candidates import Candidate, candidates
from kip.selection.filters import SIZE, Filtered, apply, is_exact, kind_filters
from kip.selection.ranking import Priced, Rank, priced, surplus_usd_per_hour
from kip.selection.zones import Zones, zones_for

#: (instance type, zone, launch type) → why EC2 did not give it lately.
Unavailable = Mapping[tuple[str, str, LaunchType], str]

# Kinds of pods whose candidates are kept at hand: pods of one Deployment are alike, and so are most others.
_KINDS_AT_HAND = 64
_MARKETS: dict[MarketWish, tuple[Market, ...]] = {
    "on-demand": ("on-demand",),
    "spot": ("spot",),
    "spot-preferred": ("spot", "on-demand"),
}
# The part of a pod's offers that is kept for on-demand ones when spot is only preferred: a pod must not have to wait
# for the next round when no spot offer holds (Karpenter's users met that: issues 5789, 6324).
_ON_DEMAND_SHARE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What holds for every pod."""

    zones: tuple[str, ...]
    """Zones that cells may be in, preferred ones first."""
    default_instance_type: str
    """For pods that ask for nothing."""
    allowed: tuple[str, ...] = ()
    """Families, types or patterns; empty allows all (`cells.instanceTypes`)."""
    excluded: tuple[str, ...] = ()
    max_offers: int = 20
    """More alternatives than a pod will ever try one after another."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Instance types that are out, and why."""

    reason: str
    types: tuple[str, ...]
    instead: Mapping[str, str]
    """Type → what it has in the place of what was wanted, where that is a matter of more or less; nearest first."""

    def __str__(self) -> str:
        return f"{len(self.types):,} {self.reason}"


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
        best = self.offers[0]
        first_of_each = {offer.instance_type.name: offer for offer in reversed(self.offers)}
        types = dict.fromkeys(offer.instance_type.name for offer in self.offers)
        listed = [f"{name} {_ranked(first_of_each[name])}" for name in list(types)[:3]]
        ranking = f"; best {len(listed)}: {', '.join(listed)}" if len(listed) > 1 else ""
        note = f" ({self.note})" if self.note else ""
        return f"chose {best}{note}; {self.fitting:,} of {self.considered:,} types fit{ranking}"


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

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is the same for all pods of one kind, whatever their size."""

    outcomes: tuple[Filtered, ...]
    steady: Mapping[Market, list[Priced]]
    """Best first."""
    burstable: Mapping[Market, list[Priced]]
    """Their rank depends on the pod's CPU."""


@dataclass(frozen=True, slots=True)
class _Fits:
    kind: _Kind
    found: Collection[Candidate]
    outcomes: tuple[Filtered, ...]
    note: str = ""
    leading: _Fits | None = None
    """What comes before all others, whatever it costs."""


class Chooser:
    """Chooses from one catalogue at one moment's prices, which are prepared once.

    Newer prices make a new one. What only depends on the kind of a pod (everything but amounts) is kept, so that
    pods that are alike cost some 0.2 ms each.
    """

    def __init__(self, catalogue: Iterable[InstanceType], market: MarketData = NOTHING_KNOWN) -> None:
        self._market = market
        self._candidates = candidates(catalogue, market)
        self._kind = lru_cache(maxsize=_KINDS_AT_HAND)(self._prepare)

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Every type of the catalogue with what it leaves to a pod, by name."""
        return self._candidates

    def choose(
        self, needs: Requirements, constraints: Constraints, unavailable: Unavailable | None = None
    ) -> Choice | NoFit:
        """The offers for one pod."""
        outcome = self._choose(needs, constraints, unavailable or {})
        if isinstance(outcome, NoFit) and needs.inherited:
            # The pod's owner may never have seen what is in the way.
            whose = f"{outcome.message} (not the pod's own: {'; '.join(needs.inherited)})"
            return replace(outcome, message=whose)
        return outcome

    def _choose(
        self, needs: Requirements, constraints: Constraints, unavailable: Unavailable
    ) -> Choice | NoFit:
        if needs.other_resources:
            names = ", ".join(needs.other_resources)
            return NoFit("NoInstanceFits", f"the pod requests {names}, which no cell has")
        zones = zones_for(needs, constraints.zones)
        if zones.problem:
            return NoFit("NoInstanceFits", zones.problem)
        # Sorted, because their order changes with every launch and what is at hand does not depend on it.
        fits = self._fits(needs, replace(constraints, zones=tuple(sorted(zones.all))))
        if not fits.found:
            return NoFit("NoInstanceFits", fits.outcomes[-1].explain(), fits.outcomes)
        offers = tuple(_offers(fits, needs, zones, constraints.max_offers, unavailable))
        if not offers:
            return self._none_now(fits, needs, zones, unavailable)
        return Choice(offers, len(fits.found), len(self._candidates), fits.outcomes, fits.note)

    def _fits(self, needs: Requirements, constraints: Constraints) -> _Fits:
        if needs.instance_type is None and not needs.sized:
            return self._default(needs, constraints)
        fits = _sized(self._kind(_without_amounts(needs), constraints), needs)
        if not is_exact(needs.instance_type):
            return fits
        return replace(fits, note="; ".join(filter(None, (_doubtful(named, needs) for named in fits.found))))

    def _default(self, needs: Requirements, constraints: Constraints) -> _Fits:
        """The configured type; should EC2 have none, types that leave a pod no less than it does."""
        name = constraints.default_instance_type
        kind = self._kind(_without_amounts(needs), constraints)
        # Not asked for by the pod: so its images know better.
        asked = replace(needs, instance_type=name, architectures_inferred=False)
        named = self._fits(asked, constraints)
        if not named.found:
            why = named.outcomes[-1].explain()
            return replace(_sized(kind, needs), note=f"not the default {name}: {why}")
        (like,) = named.found
        memory = min(like.memory_bytes, like.estimated_memory_bytes)
        as_large = replace(needs, cpu_millis=like.cpu_millis, memory_bytes=max(memory, 0))
        others = _sized(kind, as_large)
        # They are ranked by `needs`: what the default leaves is no request that anybody will use all the time.
        note = "the default, as the pod requests nothing"
        return replace(others, found={*others.found, like}, note=note, leading=named)

    def _prepare(self, needs: Requirements, constraints: Constraints) -> _Kind:
        zones = constraints.zones
        filters = kind_filters(
            allowed=constraints.allowed,
            excluded=constraints.excluded,
            zones=zones,
            offered=self._market.offered,
        )
        outcomes = tuple(apply(filters, self._candidates, needs))
        by_market = {
            market: priced(outcomes[-1].kept, needs, market, zones, self._market)
            for market in _MARKETS[needs.market]
        }
        return _Kind(
            outcomes,
            steady={
                m: [p for p in entries if not p.candidate.type.burstable] for m, entries in by_market.items()
            },
            burstable={
                m: [p for p in entries if p.candidate.type.burstable] for m, entries in by_market.items()
            },
        )

    def _none_now(self, fits: _Fits, needs: Requirements, zones: Zones, unavailable: Unavailable) -> NoFit:
        asked = [o for o in _offers(fits, needs, zones, len(self._candidates), {}) if _key(o) in unavailable]
        where = ", ".join(zones.all)
        if not asked:
            message = (
                f"no type that fits can be had on the market {needs.market} in {where}, as the pod wants it"
            )
            return NoFit("NoInstanceFits", message, fits.outcomes)
        best, total = asked[0], len(fits.found)
        count = "the only type that fits" if total == 1 else f"all {total:,} types that fit"
        message = (
            f"EC2 had none of {count} lately, in {where}; {best.instance_type.name} in {best.zone}, "
            f"{best.launch_type}: {unavailable[_key(best)]}"
        )
        return NoFit("NoInstanceAvailable", message, fits.outcomes)


def choose(
    needs: Requirements,
    catalogue: Iterable[InstanceType],
    constraints: Constraints,
    unavailable: Unavailable | None = None,
    market: MarketData = NOTHING_KNOWN,
) -> Choice | NoFit:
    """The offers for one pod. For many pods and one catalogue make a `Chooser`."""
    return Chooser(catalogue, market).choose(needs, constraints, unavailable)


def _without_amounts(needs: Requirements) -> Requirements:
    """What makes two pods of one kind; hashable."""
    return replace(
        needs,
        cpu_millis=0,
        memory_bytes=0,
        huge_pages=(),
        volume_bytes=0,
        volume_zones=None,
        spreads=(),
        private_ip_only=None,
        security_groups=(),
        instance_profile=None,
        inherited=(),
        sized=True,
        parts=(),
    )


def _doubtful(named: Candidate, needs: Requirements) -> str:
    """Why a type that the pod names may be of no use to it; empty when it looks well."""
    built_for = needs.architectures or ()
    if needs.architectures_inferred and named.type.architecture not in built_for:
        names = " or ".join(sorted(built_for)) or "no architecture that EC2 has"
        return f"as the pod asks for it, though its image is for {names}"
    requested = needs.memory_bytes + needs.huge_pages_bytes
    if requested <= named.memory_bytes:
        return ""
    left = f"{max(named.memory_bytes, 0) // MIB:,}Mi of the {-(-requested // MIB):,}Mi memory requested"
    return f"as the pod asks for it, though it may leave no more than {left}"


def _sized(kind: _Kind, needs: Requirements) -> _Fits:
    if not kind.outcomes[-1].kept:
        return _Fits(kind, (), kind.outcomes)
    sizes = apply(SIZE, kind.outcomes[-1].kept, needs)
    return _Fits(kind, sizes[-1].kept, (*kind.outcomes, *sizes))


def _offers(
    fits: _Fits, needs: Requirements, zones: Zones, limit: int, unavailable: Unavailable
) -> Iterator[Offer]:
    """Market by market, then zones from the better to the worse, then from the cheapest on."""
    markets = _MARKETS[needs.market]
    left = limit
    for market in markets:
        entries, share = _best_first(fits, needs, market), left
        if market == "spot" and len(markets) > 1:
            entries = _no_dearer_than(next(_best_first(fits, needs, "on-demand"), None), entries, needs)
            share = max(limit - max(limit // _ON_DEMAND_SHARE, 1), 1)
        for offer in _first(_in_zones(entries, needs, zones), share, unavailable):
            yield offer
            left -= 1


def _first(offers: Iterable[Offer], limit: int, unavailable: Unavailable) -> Iterator[Offer]:
    return islice((offer for offer in offers if _key(offer) not in unavailable), max(limit, 0))


def _in_zones(entries: Iterator[Priced], needs: Requirements, zones: Zones) -> Iterator[Offer]:
    several = len(zones.tiers) > 1
    again = list(entries) if several else entries  # with one tier only as many are looked at as are wanted
    for tier in zones.tiers:
        for entry in again:
            candidate = entry.candidate
            surplus = surplus_usd_per_hour(candidate, needs) if candidate.type.burstable else 0.0
            for zone in tier:
                if zone in entry.zones:
                    yield Offer(candidate.type, zone, entry.market, entry.usd, needs.dedicated, surplus)


def _best_first(fits: _Fits, needs: Requirements, market: Market) -> Iterator[Priced]:
    """The entries that fit."""
    ahead: set[Candidate] = set()
    if fits.leading is not None:
        for entry in _best_first(fits.leading, needs, market):
            ahead.add(entry.candidate)
            yield entry
    found = set(fits.found) - ahead
    steady = ((entry.rank, entry) for entry in fits.kind.steady[market] if entry.candidate in found)
    bursting = sorted(
        ((entry.rank_for(needs), entry) for entry in fits.kind.burstable[market] if entry.candidate in found),
        key=_rank_of,
    )
    for _, entry in heapq.merge(steady, bursting, key=_rank_of):
        yield entry


def _rank_of(ranked: tuple[Rank, Priced]) -> Rank:
    return ranked[0]


def _no_dearer_than(limit: Priced | None, entries: Iterator[Priced], needs: Requirements) -> Iterator[Priced]:
    """Nobody who prefers spot wants to pay more for it than on demand (Karpenter leaves such offers out too)."""
    if limit is None:
        return entries
    most = limit.rank_for(needs)
    return (entry for entry in entries if entry.usd is None or entry.rank_for(needs) <= most)


def _key(offer: Offer) -> tuple[str, str, LaunchType]:
    return offer.instance_type.name, offer.zone, offer.launch_type


def _ranked(offer: Offer) -> str:
    """The price in a ranking; `~` says that it is the on-demand price in the place of one that is not known."""
    if offer.ranked_usd is None:
        return "(price unknown)"
    return f"{'~' if offer.usd_per_hour is None else ''}{usd(offer.ranked_usd)}"


def _rejections(outcomes: Iterable[Filtered]) -> tuple[Rejection, ...]:
    return tuple(_rejection(outcome, rejected) for outcome in outcomes if (rejected := outcome.rejected))


def _rejection(outcome: Filtered, rejected: list[Candidate]) -> Rejection:
    names = tuple(candidate.name for candidate in rejected)
    instead, amount = outcome.instead, outcome.amount
    if instead is None or amount is None:
        return Rejection(outcome.reason, names, {})
    nearest = sorted(rejected, key=lambda candidate: (-amount(candidate), candidate.name))
    return Rejection(outcome.reason, names, {candidate.name: instead(candidate) for candidate in nearest})
