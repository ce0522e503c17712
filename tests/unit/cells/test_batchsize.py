"""Batches shrink with refusals and grow with grants."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.doubles.samples import intent

from kip.cells.batchsize import MOST, BatchSizes
from kip.cells.spec import LaunchSpec
from kip.cloud.errors import InsufficientCapacity, InvalidRequest, QuotaExceeded, SubnetFull, Throttled
from kip.model.cell import Intent

SPEC = LaunchSpec(
    instance_type="t3.small",
    market="on-demand",
    subnet_id="subnet-a",
    zone="a",
    image_id="ami-1",
    root_device_name="/dev/xvda",
    security_group_ids=(),
    user_data=b"",
)
SPOT = replace(SPEC, market="spot")
ELSEWHERE = replace(SPEC, subnet_id="subnet-b", zone="b")


def asked(count: int, token: str = "t") -> Intent:
    return intent(token, count=count, subnet_id="subnet-a", zone="a")


@pytest.fixture
def sizes():
    return BatchSizes()


def test_a_quota_counts_for_its_market_and_a_subnet_for_itself(sizes):
    sizes.refused(QuotaExceeded(""), asked(100), SPEC)
    assert (sizes.of(SPEC), sizes.of(ELSEWHERE), sizes.of(SPOT)) == (50, 50, MOST)
    assert sizes.cautious(SPEC)
    assert not sizes.cautious(SPOT)
    sizes.refused(SubnetFull(""), asked(20), SPOT)
    assert (sizes.of(SPEC), sizes.of(ELSEWHERE), sizes.of(SPOT)) == (10, 50, 10)


def test_a_throttle_counts_for_all_once_the_same_call_met_it_twice_in_a_row(sizes):
    sizes.refused(Throttled(""), asked(100), SPEC)
    assert (sizes.of(SPEC), sizes.throttled("t")) == (MOST, 1)
    sizes.refused(Throttled(""), asked(100), SPEC)
    assert (sizes.of(SPEC), sizes.of(SPOT), sizes.throttled("t")) == (50, 50, 2)


def test_in_a_row_means_with_nothing_else_between(sizes):
    sizes.refused(Throttled(""), asked(100), SPEC)
    sizes.refused(InsufficientCapacity(""), asked(100), SPEC)
    sizes.refused(Throttled(""), asked(100), SPEC)
    assert (sizes.of(SPEC), sizes.throttled("t")) == (MOST, 1)
    sizes.granted(asked(100), SPEC)
    assert sizes.throttled("t") == 0


def test_batches_refused_side_by_side_halve_it_once(sizes):
    for number in range(10):
        sizes.refused(QuotaExceeded(""), asked(100, f"t{number}"), SPEC)
    assert sizes.of(SPEC) == 50


def test_one_is_always_asked_for_and_grants_bring_all_back(sizes):
    for count in (100, 50, 25, 12, 6, 3, 1, 1):
        sizes.refused(QuotaExceeded(""), asked(count), SPEC)
    assert sizes.of(SPEC) == 1
    for expected in (2, 4, 8, 16, 32, 64, MOST):
        sizes.granted(asked(1), SPEC)
        assert sizes.of(SPEC) == expected
    assert not sizes.cautious(SPEC)


def test_one_by_one_is_no_caution_and_ends_when_one_alone_is_refused_too(sizes):
    together = InvalidRequest("no", code="InvalidParameterCombination")
    sizes.refused(together, asked(5), SPEC)
    assert sizes.of(SPOT) == 1
    assert not sizes.cautious(SPOT), "there is nothing to find out"
    sizes.refused(together, asked(1), SPEC)
    assert sizes.of(SPOT) == MOST


def test_throttled_tokens_are_not_remembered_for_ever(sizes):
    for number in range(2000):
        sizes.refused(Throttled(""), asked(1, f"t{number}"), SPEC)
    assert sizes.throttled("t0") == 0
    assert sizes.throttled("t1999") == 1
