"""What an instance type costs for a pod."""

from __future__ import annotations

from typing import Any

import pytest

from kip.model.instance_type import InstanceType
from kip.model.requirements import Requirements
from kip.selection.candidates import Candidate, candidates
from kip.selection.ranking import baseline_millis, hourly_cost, rank


def candidate(name: str, vcpus: int, usd: float | None, **more: Any) -> Candidate:
    kind = InstanceType(
        name=name,
        vcpus=vcpus,
        memory_mib=4096,
        usd_per_hour=usd,
        architecture="amd64",
        max_enis=3,
        max_ipv4_per_eni=10,
        **more,
    )
    return candidates([kind])[0]


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
        ("t9.huge", 2, 100),
    ],
)
def test_baselines(name: str, vcpus: int, millis: int) -> None:
    assert baseline_millis(candidate(name, vcpus, 0.1, burstable=True)) == millis


@pytest.mark.parametrize(
    ("name", "cpu_millis", "cost"),
    [("t3.small", 0, 0.02), ("t3.small", 400, 0.02), ("t3.small", 1400, 0.07), ("t4g.small", 1400, 0.06)],
)
def test_cpu_beyond_the_baseline_costs_extra(name: str, cpu_millis: int, cost: float) -> None:
    subject = candidate(name, 2, 0.02, burstable=True)
    assert hourly_cost(subject, Requirements(cpu_millis=cpu_millis)) == pytest.approx(cost)


def test_others_cost_what_they_cost() -> None:
    assert hourly_cost(candidate("m7i.large", 2, 0.1), Requirements(cpu_millis=1900)) == 0.1
    assert hourly_cost(candidate("m7i.large", 2, None), Requirements()) is None
    assert hourly_cost(candidate("t3.small", 2, None, burstable=True), Requirements()) is None


def test_a_price_of_zero_is_a_price() -> None:
    needs = Requirements()
    free, unknown = candidate("a.large", 2, 0.0), candidate("b.large", 2, None)
    assert rank(free, needs) < rank(candidate("c.large", 2, 0.1), needs) < rank(unknown, needs)
