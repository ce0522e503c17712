"""What an instance type costs for a pod."""

from __future__ import annotations

from typing import Any

import pytest

from kip.model.burstable import baseline_per_mille
from kip.model.instance_type import InstanceType
from kip.model.market import ANY_ZONE, MarketData
from kip.model.placement import Rule
from kip.model.requirements import Requirements
from kip.selection.candidates import Candidate, candidates
from kip.selection.ranking import Priced, priced, rank, surplus_usd_per_hour


def kind(name: str, vcpus: int = 2, usd: float | None = 0.1, **more: Any) -> InstanceType:
    family, _, size = name.partition(".")
    if family.startswith("t"):
        more = {"burstable": True, "baseline_per_mille": baseline_per_mille(family, size, vcpus), **more}
    values: dict[str, Any] = {
        "memory_mib": 4096,
        "architecture": "amd64",
        "max_enis": 3,
        "max_ipv4_per_eni": 10,
    }
    return InstanceType(name=name, vcpus=vcpus, usd_per_hour=usd, **{**values, **more})


def candidate(name: str, vcpus: int = 2, usd: float | None = 0.1, **more: Any) -> Candidate:
    return candidates([kind(name, vcpus, usd, **more)])[0]


# EC2 User Guide, "Key concepts for burstable performance instances": baseline utilisation per vCPU.
@pytest.mark.parametrize(
    ("name", "vcpus", "millis"),
    [
        ("t3.nano", 2, 100),
        ("t3.micro", 2, 200),
        ("t3a.medium", 2, 400),
        ("t4g.large", 2, 600),
        ("t3.2xlarge", 8, 3200),
        ("t2.small", 1, 200),
        ("t2.xlarge", 4, 900),
        ("t2.2xlarge", 8, 1360),
        ("t9.huge", 2, 100),
    ],
)
def test_baselines(name: str, vcpus: int, millis: int) -> None:
    assert candidate(name, vcpus).baseline_millis == millis


@pytest.mark.parametrize(
    ("name", "cpu_millis", "surplus"),
    [
        ("t3.small", 0, 0),
        ("t3.small", 400, 0),
        ("t3.small", 1400, 0.05),
        ("t4g.small", 1400, 0.04),
        ("m7i.large", 1900, 0),
    ],
)
def test_cpu_beyond_the_baseline_costs_extra(name: str, cpu_millis: int, surplus: float) -> None:
    assert surplus_usd_per_hour(candidate(name), Requirements(cpu_millis=cpu_millis)) == pytest.approx(
        surplus
    )


def test_t2_slows_down_instead() -> None:
    assert candidate("t2.medium").sustained_millis == 400
    assert candidate("t3.medium").sustained_millis == candidate("t3.medium").cpu_millis == 1930


def test_a_price_of_zero_is_a_price() -> None:
    free, unknown, other = candidate("a.large"), candidate("b.large"), candidate("c.large")
    assert rank(free, 0.0) < rank(other, 0.1) < rank(unknown, None)


def test_of_unknown_prices_the_smallest_machine_goes_first() -> None:
    names = ["u7in-32tb.224xlarge", "c7i.24xlarge", "m7i.large", "g6.xlarge"]
    sizes = {"c7i.24xlarge": 96, "u7in-32tb.224xlarge": 896}
    found = [candidate(n, sizes.get(n, 2), usd=None, gpus=int(n[0] == "g")) for n in names]
    assert [c.name for c in sorted(found, key=lambda c: rank(c, None))] == [
        "m7i.large",
        "g6.xlarge",
        "c7i.24xlarge",
        "u7in-32tb.224xlarge",
    ]


def test_a_previous_generation_must_be_a_fifth_cheaper() -> None:
    new, old = candidate("m7i.large"), candidate("m4.large", current_generation=False)
    assert rank(new, 0.119) < rank(old, 0.1) < rank(new, 0.121)


ZONES = ("a", "b", "c")


def prices(
    market: Any, data: MarketData, needs: Requirements | None = None
) -> list[tuple[str, str, Any, Any]]:
    found = candidates(
        [kind("m7i.large", usd=0.1), kind("m6i.large", usd=0.09), kind("x9.large", usd=None)], data
    )
    entries: list[Priced] = priced(found, needs or Requirements(), market, ZONES, data)
    return [(e.candidate.name, "".join(e.zones), e.usd, e.base_usd) for e in entries]


def test_on_demand_costs_the_same_in_all_zones() -> None:
    assert prices("on-demand", MarketData(on_demand={"m7i.large": 0.08})) == [
        ("m7i.large", "abc", 0.08, 0.08),
        ("m6i.large", "abc", 0.09, 0.09),
        ("x9.large", "abc", None, None),
    ]


def test_spot_prices_differ_by_zone_and_unknown_ones_rank_by_the_on_demand_price() -> None:
    spot = {("m7i.large", "b"): 0.03, ("m7i.large", "a"): 0.095, ("x9.large", ANY_ZONE): 0.05}
    assert prices("spot", MarketData(spot=spot)) == [
        ("m7i.large", "b", 0.03, 0.03),
        ("x9.large", "abc", 0.05, 0.05),
        ("m6i.large", "abc", None, 0.09),
        ("m7i.large", "a", 0.095, 0.095),
        ("m7i.large", "c", None, 0.1),
    ]


def test_the_price_of_dedicated_hardware_is_known_only_if_it_was_given() -> None:
    assert prices("on-demand", MarketData(dedicated={"m7i.large": 0.08}), Requirements(dedicated=True))[
        0
    ] == (
        "m7i.large",
        "abc",
        0.08,
        0.08,
    )
    assert prices("on-demand", MarketData(), Requirements(dedicated=True))[0] == (
        "m6i.large",
        "abc",
        None,
        0.09,
    )


def test_only_zones_that_have_the_type_and_that_the_pod_allows() -> None:
    data = MarketData(offered={"a": frozenset({"m7i.large"}), "b": frozenset({"m7i.large", "m6i.large"})})
    assert prices("on-demand", data) == [
        ("m6i.large", "bc", 0.09, 0.09),
        ("m7i.large", "abc", 0.1, 0.1),
        ("x9.large", "c", None, None),
    ]
    terms = (
        (
            Rule("karpenter.k8s.aws/instance-family", "In", ("m6i",)),
            Rule("topology.kubernetes.io/zone", "In", ("b",)),
        ),
        (
            Rule("karpenter.k8s.aws/instance-family", "In", ("m7i",)),
            Rule("topology.kubernetes.io/zone", "NotIn", ("b",)),
        ),
        (Rule("karpenter.sh/capacity-type", "In", ("spot",)),),
    )
    assert prices("on-demand", data, Requirements(terms=terms)) == [
        ("m6i.large", "b", 0.09, 0.09),
        ("m7i.large", "ac", 0.1, 0.1),
    ]
