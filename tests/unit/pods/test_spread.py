"""What a pod says about being spread over zones, and which of its neighbours that counts."""

from __future__ import annotations

from typing import Any

import pytest

from kip.model.spread import ZoneSpread
from kip.pods.selectors import matches
from kip.pods.spread import Neighbour, zone_spreads

ZONE = "topology.kubernetes.io/zone"
NEIGHBOURS = (
    Neighbour({"app": "web", "rev": "1"}, "a"),
    Neighbour({"app": "web", "rev": "2"}, "a"),
    Neighbour({"app": "web", "rev": "2"}, "b"),
    Neighbour({"app": "db"}, "b"),
)


def pod(*constraints: dict[str, Any], **labels: str) -> dict[str, Any]:
    return {"metadata": {"labels": labels}, "spec": {"topologySpreadConstraints": list(constraints)}}


def constraint(**more: Any) -> dict[str, Any]:
    selector = {"matchLabels": {"app": "web"}}
    return {
        "maxSkew": 1,
        "topologyKey": ZONE,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": selector,
    } | more


def test_a_pod_that_says_nothing() -> None:
    assert zone_spreads({"spec": {}}, NEIGHBOURS) == ()
    assert zone_spreads(pod(constraint(topologyKey="kubernetes.io/hostname")), NEIGHBOURS) == ()


def test_neighbours_that_count() -> None:
    (found,) = zone_spreads(pod(constraint(), app="web"), NEIGHBOURS)
    assert found == ZoneSpread(max_skew=1, required=True, counts={"a": 2, "b": 1})


def test_one_that_is_not_its_like_counts_others_only() -> None:
    (found,) = zone_spreads(pod(constraint(), app="other"), NEIGHBOURS)
    assert not found.counts_itself
    assert found.counts == {"a": 2, "b": 1}


def test_revisions_are_counted_apart() -> None:
    (found,) = zone_spreads(pod(constraint(matchLabelKeys=["rev", "none"]), app="web", rev="2"), NEIGHBOURS)
    assert found.counts == {"a": 1, "b": 1}


def test_a_wish_and_the_number_of_zones() -> None:
    wish = constraint(whenUnsatisfiable="ScheduleAnyway", maxSkew=3)
    many = constraint(minDomains=3, labelSelector=None)
    first, second = zone_spreads(pod(wish, many, app="web"), NEIGHBOURS)
    assert (first.required, first.max_skew) == (False, 3)
    assert (second.min_domains, second.counts, second.counts_itself) == (3, {}, False)


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        (None, False),
        ({}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "db"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "db"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["x"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
    ],
)
def test_selectors(selector: dict[str, Any] | None, selected: bool) -> None:
    assert matches(selector, {"app": "web"}) is selected
