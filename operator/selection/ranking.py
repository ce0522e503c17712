"""What an instance type costs for a pod, and which of several offers is the better one.

A burstable type is priced with its CPU credits. The first Kip did so too: what a pod needs beyond the type's baseline
costs extra, and that is what the sum was compared by. Three things are different here. It counted limits as needs; we
count requests, which are what a pod says it uses steadily, while for more than that there are credits. It switched
between standard and unlimited mode by a call after each launch; we leave AWS's default, which is unlimited for all but
T2, so that a cell is not throttled while it boots. And T2, which is throttled by default, is not chosen for a pod that
requests more than its baseline, rather than being priced as if it were not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kip.model.burstable import surplus_usd
from kip.model.instance_type import InstanceType
from kip.model.market import MarketData
from kip.model.requirements import Market, Requirements
from kip.selection.candidates import Candidate
from kip.selection.labels import allows_place, allows_type

#: How much cheaper a type of a previous generation must be to be preferred: it is slower for the same vCPUs, and
#: AWS has less of it every year.
OLD_GENERATION_FACTOR = 1.2

# About what M, C and R of the sixth and seventh generation and G5 and G6 cost an hour in us-east-1 in 2026.
_USD_PER_VCPU, _USD_PER_GIB, _USD_PER_GPU = 0.034, 0.004, 0.7

Rank = tuple[bool, float, int, int, str]


@dataclass(frozen=True, slots=True)
class Priced:
    """A candidate on a market, in the zones where it costs the same."""

    candidate: Candidate
    market: Market
    zones: tuple[str, ...]
    usd: float | None
    """The price; None when it is not known."""
    base_usd: float | None
    """What it is ranked by: the price, else the on-demand price."""
    rank: Rank
    """For a pod that needs no CPU credits."""

    def rank_for(self, needs: Requirements) -> Rank:
        """Its rank for this pod."""
        if not self.candidate.type.burstable or self.base_usd is None:
            return self.rank
        return rank(self.candidate, self.base_usd + surplus_usd_per_hour(self.candidate, needs))


def rank(candidate: Candidate, usd: float | None) -> Rank:
    """Sorts the better one first: known prices, cheap, then with more memory and CPU left, then by name.

    Among those of unknown price the smallest is taken for the cheapest: any of them would do for the pod.
    """
    kind = candidate.type
    cost = _guessed_usd(kind) if usd is None else usd
    if not kind.current_generation:
        cost *= OLD_GENERATION_FACTOR
    return usd is None, cost, -candidate.memory_bytes, -candidate.cpu_millis, kind.name


def _guessed_usd(kind: InstanceType) -> float:
    """Only good to put types in order: never shown, nor compared with a price."""
    gib = kind.memory_mib / 1024
    return kind.vcpus * _USD_PER_VCPU + gib * _USD_PER_GIB + kind.gpus * _USD_PER_GPU


def surplus_usd_per_hour(candidate: Candidate, needs: Requirements) -> float:
    """US dollars for CPU credits if the pod always uses the CPU that it requests."""
    if not candidate.type.burstable:
        return 0.0
    beyond = max(needs.cpu_millis - candidate.baseline_millis, 0)
    return beyond / 1000 * surplus_usd(candidate.type.family)


def priced(
    found: Iterable[Candidate],
    needs: Requirements,
    market: Market,
    zones: Sequence[str],
    data: MarketData,
) -> list[Priced]:
    """Everything that can be asked for on a market, best first for a pod that needs no CPU credits.

    A spot price that is not known is ranked by the on-demand price, which spot never exceeds by default: so it comes
    after those that are known to be cheap.
    """
    everywhere = tuple(zones)
    result = []
    for candidate in found:
        if market == "spot" and not candidate.type.spot:
            continue
        allowed = _places(candidate, needs, market, everywhere, data)
        for usd, same in _by_price(candidate, needs, market, allowed, data):
            base = candidate.type.usd_per_hour if usd is None else usd
            result.append(Priced(candidate, market, same, usd, base, rank(candidate, base)))
    return sorted(result, key=lambda entry: entry.rank)


def _places(
    candidate: Candidate, needs: Requirements, market: Market, zones: tuple[str, ...], data: MarketData
) -> tuple[str, ...]:
    name = candidate.name
    if data.offered:
        zones = tuple(zone for zone in zones if zone not in data.offered or name in data.offered[zone])
    if not needs.terms:
        return zones
    terms = [term for term in needs.terms if allows_type(term, candidate.type)]
    return tuple(zone for zone in zones if any(allows_place(term, zone, market) for term in terms))


def _by_price(
    candidate: Candidate, needs: Requirements, market: Market, zones: tuple[str, ...], data: MarketData
) -> Iterator[tuple[float | None, tuple[str, ...]]]:
    if not zones:
        return
    if needs.dedicated:  # costs more than shared hardware, by no fixed rule
        yield data.dedicated.get(candidate.name), zones
    elif market == "on-demand":
        yield candidate.type.usd_per_hour, zones
    elif not data.spot:
        yield None, zones
    else:
        by_price: dict[float | None, list[str]] = {}
        for zone in zones:
            by_price.setdefault(data.spot_price(candidate.name, zone), []).append(zone)
        for price, same in by_price.items():
            yield price, tuple(same)
