"""What holds for every choice: compared with a slow and simple one, over all of AWS's catalogue."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kip.cloud.catalogue import load
from kip.model.hugepages import HugePages
from kip.model.instance_type import InstanceType
from kip.model.market import MarketData
from kip.model.placement import Rule
from kip.model.quantity import GIB, MIB
from kip.model.requirements import Requirements
from kip.model.spread import ZoneSpread
from kip.selection.choose import Choice, Chooser, Constraints, NoFit, choose

ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
CONSTRAINTS = Constraints(zones=ZONES, default_instance_type="t3.small", excluded=("c6a",))
ALL = load("us-east-1")
BY_NAME = {kind.name: kind for kind in ALL}


def market(seed: int) -> MarketData:
    """Spot prices for most of the types in some zones, a zone without some types, memory that was seen."""
    chance = random.Random(seed)
    priced = [kind for kind in ALL if kind.usd_per_hour]
    spot = {
        (kind.name, zone): (kind.usd_per_hour or 0) * chance.uniform(0.2, 1.1)
        for kind in priced
        for zone in ZONES
        if chance.random() < 0.7
    }
    seen = {
        k.name: int(k.memory_mib * MIB * chance.uniform(0.93, 0.98)) for k in ALL if chance.random() < 0.2
    }
    offered = {ZONES[0]: frozenset(kind.name for kind in ALL if chance.random() < 0.8)}
    return MarketData(spot=spot, memory_bytes=seen, offered=offered)


MARKET = market(4)
CHOOSER = Chooser(ALL, MARKET)

INSTANCE_TYPE = "node.kubernetes.io/instance-type"
ZONE = "topology.kubernetes.io/zone"


# Each wish excludes much; with most of them absent most pods get a machine, and amounts decide.
def seldom(nothing: object, *wishes: object) -> st.SearchStrategy[object]:
    return st.integers(0, 9).flatmap(
        lambda number: st.sampled_from(wishes) if number == 9 else st.just(nothing)
    )


TERMS = seldom(
    (),
    ((Rule(ZONE, "In", ZONES[:1]),),),
    ((Rule(ZONE, "NotIn", ZONES[:2]), Rule("karpenter.k8s.aws/instance-category", "In", ("m", "r"))),),
    (
        (Rule(INSTANCE_TYPE, "In", ("m7i.large",)), Rule(ZONE, "In", ZONES[:1])),
        (Rule(INSTANCE_TYPE, "In", ("c7i.4xlarge",)),),
    ),
    ((Rule("karpenter.k8s.aws/instance-generation", "Gt", ("6",)),),),
)
# About as much as a machine of a usual size leaves: where a mistake by a little shows.
NEARLY_ALL = st.builds(
    lambda gib, per_cent: gib * GIB * per_cent // 100,
    st.sampled_from([2, 4, 8, 16, 32, 64]),
    st.integers(60, 97),
)
ALL_BUT_A_LITTLE = st.builds(
    lambda cores, kept: cores * 1000 - kept, st.sampled_from([1, 2, 4, 8]), st.integers(0, 130)
)
NEEDS = st.builds(
    Requirements,
    cpu_millis=st.one_of(ALL_BUT_A_LITTLE, st.integers(0, 1900), st.integers(0, 200_000)),
    memory_bytes=st.one_of(
        NEARLY_ALL, st.integers(0, 64 * GIB), st.integers(0, 2048).map(lambda gib: gib * GIB)
    ),
    huge_pages=st.sampled_from([(), (HugePages("hugepages-1Gi", 1),)]),
    gpus=seldom(0, 1, 4, 8),
    architectures=seldom(None, frozenset({"amd64"}), frozenset({"arm64"}), frozenset({"amd64", "arm64"})),
    market=st.sampled_from(["on-demand", "spot", "spot-preferred"]),
    instance_type=seldom(None, "m*", "c7*", "*.xlarge", "t*", "m7i.2xlarge", "g*"),
    terms=TERMS,
    volume_zones=seldom(None, frozenset(ZONES[1:])),
    spreads=seldom((), (ZoneSpread(max_skew=1, required=True, counts={ZONES[1]: 1}),)),
)


def admitted(kind: InstanceType, needs: Requirements) -> bool:
    """The kubelet's own admission on such a machine: what is requested against allocatable, which is capacity less
    kubeReserved and evictionHard (systemReserved is empty). The numbers are nodeadm's, for the 8 pods of a cell."""
    cores = kind.vcpus
    reserved_cpu = 60 + (10 if cores > 1 else 0) + 5 * min(max(cores - 2, 0), 2) + 2.5 * max(cores - 4, 0)
    capacity = MARKET.memory_bytes.get(kind.name)
    if capacity is None:
        # With a name given the estimate of what the hypervisor keeps does not count.
        kept = 0.0 if needs.instance_type == kind.name else 0.075
        capacity = int(kind.memory_mib * MIB * (1 - kept))
    allocatable = capacity - needs.huge_pages_bytes - (255 + 11 * 8) * MIB - 100 * MIB
    return needs.cpu_millis <= cores * 1000 - reserved_cpu and needs.memory_bytes <= allocatable


@given(NEEDS)
def test_no_kubelet_would_refuse_the_pod(needs: Requirements) -> None:
    found = CHOOSER.choose(needs, CONSTRAINTS)
    if isinstance(found, Choice):
        for offer in found.offers:
            assert admitted(offer.instance_type, needs)
            assert offer.instance_type.gpus >= needs.gpus
            assert offer.instance_type.linux
            assert offer.instance_type.max_ipv4_per_eni >= 2
            assert needs.architectures is None or offer.instance_type.architecture in needs.architectures
            assert offer.instance_type.family != "c6a"


@given(NEEDS)
def test_where_and_how_is_as_the_pod_and_ec2_allow_it(needs: Requirements) -> None:
    found = CHOOSER.choose(needs, CONSTRAINTS)
    if isinstance(found, Choice):
        for offer in found.offers:
            assert offer.zone in (needs.volume_zones or ZONES)
            assert not needs.spreads or offer.zone != ZONES[1]
            assert offer.market in needs.market or needs.market == "spot-preferred"
            assert offer.market == "on-demand" or offer.instance_type.spot
            assert offer.instance_type.name in MARKET.offered.get(offer.zone, BY_NAME)
            known = MARKET.spot.get((offer.instance_type.name, offer.zone))
            price = known if offer.market == "spot" else offer.instance_type.usd_per_hour
            assert offer.usd_per_hour == price


def costs(needs: Requirements, names: set[str]) -> Iterator[tuple[float, str]]:
    """What every allowed offer of these types costs by its price: the slow way."""
    markets = ["spot", "on-demand"] if needs.market == "spot-preferred" else [needs.market]
    for kind in (BY_NAME[name] for name in names):
        for zone in ZONES:
            if kind.name not in MARKET.offered.get(zone, BY_NAME) or zone not in (
                needs.volume_zones or ZONES
            ):
                continue
            if needs.spreads and zone == ZONES[1]:
                continue
            if needs.terms and not any(
                all(rule.allows(zone) for rule in term if rule.label == ZONE)
                and all(rule.allows(kind.name) for rule in term if rule.label == INSTANCE_TYPE)
                for term in needs.terms
            ):
                continue
            for way in markets:
                price = MARKET.spot.get((kind.name, zone)) if way == "spot" else None
                price = kind.usd_per_hour if price is None else price
                if price is not None and (way == "on-demand" or kind.spot):
                    baseline = kind.vcpus * (kind.baseline_per_mille or 50.0) if kind.burstable else 1e9
                    rate = 0.04 if kind.family == "t4g" else 0.05
                    cost = price + max(needs.cpu_millis - int(baseline), 0) / 1000 * rate
                    yield cost * (1.0 if kind.current_generation else 1.2), way


@given(NEEDS)
def test_nothing_that_fits_costs_less_than_the_first(needs: Requirements) -> None:
    found = CHOOSER.choose(needs, CONSTRAINTS)
    assume(isinstance(found, Choice))
    assert isinstance(found, Choice)
    rejected = {name for rejection in found.rejected for name in rejection.types}
    best = found.offers[0]
    others = [cost for cost, way in costs(needs, BY_NAME.keys() - rejected) if way == best.market]
    if not others:
        assert best.ranked_usd is None
        return
    assert best.ranked_usd is not None
    factor = 1.0 if best.instance_type.current_generation else 1.2
    assert best.ranked_usd * factor == pytest.approx(min(others))


@given(NEEDS)
def test_spot_is_preferred_unless_it_costs_more(needs: Requirements) -> None:
    found = CHOOSER.choose(replace(needs, market="spot-preferred"), CONSTRAINTS)
    alone = CHOOSER.choose(replace(needs, market="spot"), CONSTRAINTS)
    if isinstance(found, Choice) and isinstance(alone, Choice):
        markets = [offer.market for offer in found.offers]
        assert markets == sorted(markets, reverse=True)  # spot comes first
        assert "on-demand" in markets
        assert len(markets) <= CONSTRAINTS.max_offers


@given(NEEDS)
def test_every_type_either_fits_or_has_a_reason(needs: Requirements) -> None:
    found = CHOOSER.choose(needs, replace(CONSTRAINTS, max_offers=20_000))
    if isinstance(found, NoFit) and not found.outcomes:
        return
    names = [name for rejection in found.rejected for name in rejection.types]
    assert len(names) == len(set(names))
    fitting = found.fitting if isinstance(found, Choice) else 0
    if isinstance(found, Choice) or found.message.startswith("no instance type"):
        assert len(names) + fitting == len(ALL)
    if isinstance(found, Choice):
        assert not {offer.instance_type.name for offer in found.offers} & set(names)


SOME = tuple(random.Random(7).sample(ALL, 150))


@settings(max_examples=30)
@given(NEEDS, st.randoms(use_true_random=False))
def test_the_catalogues_order_does_not_matter(needs: Requirements, chance: random.Random) -> None:
    shuffled = list(SOME)
    chance.shuffle(shuffled)
    first, second = (
        choose(needs, SOME, CONSTRAINTS, None, MARKET),
        choose(needs, shuffled, CONSTRAINTS, None, MARKET),
    )
    assert type(first) is type(second)
    assert str(first) == str(second)
    assert first.rejected == second.rejected
    if isinstance(first, Choice) and isinstance(second, Choice):
        assert first.offers == second.offers


@settings(max_examples=30)
@given(st.lists(NEEDS, min_size=2, max_size=4))
def test_what_was_chosen_before_does_not_matter(several: list[Requirements]) -> None:
    """Pods that are alike share what was prepared for the first of them."""
    for needs in several:
        fresh, used = Chooser(SOME, MARKET).choose(needs, CONSTRAINTS), SHARED.choose(needs, CONSTRAINTS)
        assert str(fresh) == str(used)
        assert fresh.rejected == used.rejected


SHARED = Chooser(SOME, MARKET)
