"""Zones that a pod's machine can be in, better ones first."""

from __future__ import annotations

from kip.model.placement import Rule
from kip.model.requirements import Requirements
from kip.model.spread import ZoneSpread
from kip.selection.zones import zones_for

ZONES = ("a", "b", "c")
ZONE = "topology.kubernetes.io/zone"


def spread(counts: dict[str, int], *, required: bool = True, **more: int) -> ZoneSpread:
    return ZoneSpread(max_skew=more.pop("max_skew", 1), required=required, counts=counts, **more)


def tiers(**needs: object) -> tuple[tuple[str, ...], ...]:
    found = zones_for(Requirements(**needs), ZONES)  # type: ignore[arg-type]
    assert not found.problem, found.problem
    return found.tiers


def problem(configured: tuple[str, ...] = ZONES, **needs: object) -> str:
    return zones_for(Requirements(**needs), configured).problem  # type: ignore[arg-type]


def test_all_are_as_good_as_each_other() -> None:
    assert tiers() == (ZONES,)
    assert problem(()) == "no subnet is configured in which a cell could be"


def test_selectors() -> None:
    assert tiers(terms=((Rule(ZONE, "In", ("c", "a", "z")),),)) == (("a", "c"),)
    assert tiers(terms=((Rule(ZONE, "NotIn", ("a",)),), (Rule(ZONE, "In", ("a",)),))) == (ZONES,)
    assert tiers(terms=((Rule("karpenter.sh/capacity-type", "In", ("spot",)),),)) == (ZONES,)
    assert (
        problem(terms=((Rule(ZONE, "In", ("z",)),),))
        == f"the pod's node selector or affinity wants {ZONE}=z, and cells can be in a, b, c"
    )


def test_volumes() -> None:
    assert tiers(volume_zones=frozenset({"b"})) == (("b",),)
    assert problem(volume_zones=frozenset({"z"})) == "the pod's volumes are in z, and cells can be in a, b, c"
    assert (
        problem(volume_zones=frozenset())
        == "the pod's volumes are in no zone in common, and cells can be in a, b, c"
    )


def test_required_spread_excludes() -> None:
    assert tiers(spreads=(spread({"a": 1}),)) == (("b", "c"),)
    assert tiers(spreads=(spread({"a": 1}, max_skew=2),)) == (ZONES,)
    assert tiers(spreads=(spread({"a": 2, "b": 2, "c": 1}),)) == (("c",),)
    assert tiers(spreads=(spread({"a": 1, "b": 1, "c": 1}),)) == (ZONES,)


def test_a_pod_that_does_not_count_itself_may_be_where_it_does_not_make_it_worse() -> None:
    assert tiers(spreads=(ZoneSpread(max_skew=1, required=True, counts_itself=False, counts={"a": 1}),)) == (
        ZONES,
    )


def test_with_too_few_zones_the_emptiest_counts_as_empty() -> None:
    assert tiers(spreads=(spread({}, min_domains=4),)) == (ZONES,)
    assert problem(spreads=(spread({"a": 1, "b": 1, "c": 1}, min_domains=4),)) == (
        "no zone is left by the pod's topology spread (maxSkew 1); its like are in: a 1, b 1, c 1"
    )


def test_zones_that_the_pod_cannot_be_in_do_not_count() -> None:
    only_ab = ((Rule(ZONE, "In", ("a", "b")),),)
    assert tiers(terms=only_ab, spreads=(spread({"a": 1, "b": 1}),)) == (("a", "b"),)


def test_volumes_do_not_change_what_is_even() -> None:
    assert problem(volume_zones=frozenset({"a"}), spreads=(spread({"a": 1}),)) != ""


def test_a_wish_to_be_spread_only_orders() -> None:
    wish = spread({"a": 2, "b": 1}, required=False)
    assert tiers(spreads=(wish,)) == (("c",), ("b",), ("a",))
    assert tiers(spreads=(spread({"a": 1}, required=False),)) == (("b", "c"), ("a",))
    assert tiers(spreads=(wish, spread({"c": 2}, required=False))) == (("b",), ("a", "c"))
    assert tiers(spreads=(wish, spread({"c": 1}))) == (("b",), ("a",))
