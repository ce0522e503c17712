"""What each refusal of EC2 means for a launch."""

from __future__ import annotations

import pytest

from kip.cells.refusal import Then, judge, rest_s, smaller_helps
from kip.cloud.errors import (
    CloudError,
    InsufficientCapacity,
    InvalidRequest,
    NotAuthorized,
    NotFound,
    QuotaExceeded,
    SubnetFull,
    Throttled,
    TokenConflict,
    Unreachable,
)

TOGETHER = InvalidRequest("no", code="InvalidParameterCombination")


@pytest.mark.parametrize(
    ("error", "count", "throttled", "then"),
    [
        (Unreachable(""), 1, 0, Then.REPEAT),
        (Unreachable(""), 100, 0, Then.REPEAT),
        (Throttled(""), 100, 1, Then.REPEAT),
        (Throttled(""), 100, 2, Then.SMALLER),
        (Throttled(""), 1, 9, Then.REPEAT),
        (Throttled(""), 0, 0, Then.REST),
        (InsufficientCapacity(""), 1, 0, Then.NEXT_OFFER),
        (InsufficientCapacity(""), 100, 0, Then.NEXT_OFFER),
        (QuotaExceeded(""), 100, 0, Then.SMALLER),
        (QuotaExceeded(""), 1, 0, Then.NEXT_OFFER),
        (QuotaExceeded(""), 0, 0, Then.NEXT_OFFER),
        (SubnetFull(""), 2, 0, Then.SMALLER),
        (SubnetFull(""), 1, 0, Then.NEXT_OFFER),
        (TOGETHER, 2, 0, Then.SMALLER),
        (TOGETHER, 1, 0, Then.REST),
        (InvalidRequest(""), 100, 0, Then.REST),
        (NotAuthorized(""), 100, 0, Then.REST),
        (NotFound(""), 100, 0, Then.REST),
        (TokenConflict(""), 100, 0, Then.REST),
        (CloudError(""), 100, 0, Then.REST),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, CloudError) else str(v),
)
def test_each_refusal_has_its_answer(error, count, throttled, then):
    assert judge(error, count=count, throttled=throttled).then is then


def test_an_intent_stays_only_where_the_call_may_have_taken_effect_or_was_not_looked_at():
    kinds = [CloudError, *CloudError.__subclasses__(), SubnetFull]
    assert {k for k in kinds if judge(k("")).then is Then.REPEAT} == {Unreachable, Throttled}


def test_only_what_does_not_exist_makes_us_look_again():
    kinds = [CloudError, *CloudError.__subclasses__()]
    assert {k for k in kinds if judge(k("")).forget_site} == {NotFound}


def test_whoever_rests_rests_longer_the_longer_the_cure_takes():
    assert rest_s(Throttled("")) < rest_s(InsufficientCapacity("")) < rest_s(InvalidRequest(""))


def test_fewer_are_no_help_where_there_is_one():
    assert not any(
        smaller_helps(e, count=1, throttled=9) for e in (Throttled(""), QuotaExceeded(""), TOGETHER)
    )
