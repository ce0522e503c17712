"""Every cell-second is told once, whatever dies when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kip.metering.ledger import (
    TAKE_OVER_AFTER,
    Ledger,
    added,
    doubted,
    due,
    floor,
    mine,
    refused,
    settled,
    too_late,
)

TEN = datetime(2026, 1, 1, 10, tzinfo=UTC)
HALF_PAST = TEN + timedelta(minutes=30)
ELEVEN = TEN + timedelta(hours=1)
HOUR_S = 3600.0


def next_record(ledger: Ledger, now: datetime, by: str = "me") -> Ledger:
    return due(ledger, now, by=by, product="p", dimension="d")


@pytest.fixture
def used() -> Ledger:
    """Two nodes, two and a half cell-hours between half past ten and eleven."""
    begun = added(added(Ledger(), "a", HALF_PAST, 0), "b", HALF_PAST, 0)
    return added(added(begun, "a", ELEVEN, 2 * HOUR_S), "b", ELEVEN, 0.5 * HOUR_S)


def test_use_of_all_nodes_is_added_up(used: Ledger) -> None:
    assert used.began == HALF_PAST
    assert used.cell_seconds == 2.5 * HOUR_S
    assert used.up_to == {"a": ELEVEN, "b": ELEVEN}


def test_a_clock_that_is_behind_counts_nothing_twice(used: Ledger) -> None:
    assert added(used, "a", ELEVEN - timedelta(seconds=1), 99) == used


def test_whole_hours_are_told_and_the_rest_later(used: Ledger) -> None:
    ledger = next_record(used, ELEVEN + timedelta(minutes=1))
    assert ledger.sending is not None
    assert ledger.sending.quantity == 2
    assert ledger.sending.timestamp == HALF_PAST, "not before the use began"
    assert ledger.cell_seconds == 0.5 * HOUR_S
    done = settled(ledger, ledger.sending)
    assert (done.sending, done.told, done.cell_seconds) == (None, TEN, 0.5 * HOUR_S)
    assert next_record(done, ELEVEN + timedelta(minutes=59)) == done, "once an hour"


def test_nothing_is_told_of_an_hour_that_is_not_over_or_was_before_all_use(used: Ledger) -> None:
    assert next_record(used, ELEVEN - timedelta(seconds=1)) == used
    assert next_record(Ledger(), ELEVEN) == Ledger()


def test_an_hour_without_use_is_told_too() -> None:
    ledger = next_record(added(Ledger(), "a", TEN, 0), ELEVEN)
    assert ledger.sending is not None
    assert ledger.sending.quantity == 0


def test_hours_that_nobody_told_are_in_the_next_record(used: Ledger) -> None:
    later = added(used, "a", ELEVEN + timedelta(hours=30), 10 * HOUR_S)
    ledger = next_record(later, ELEVEN + timedelta(hours=30))
    assert ledger.sending is not None
    assert (ledger.sending.quantity, ledger.sending.timestamp) == (12, ELEVEN + timedelta(hours=29))


def test_one_record_at_a_time_with_one_token(used: Ledger) -> None:
    ledger = next_record(used, ELEVEN)
    assert next_record(ledger, ELEVEN + timedelta(hours=2), by="other") == ledger
    assert ledger.sending is not None
    again = next_record(used, ELEVEN)
    assert again.sending is not None
    assert again.sending.token == ledger.sending.token
    other = next_record(replace(used, cell_seconds=9 * HOUR_S), ELEVEN)
    assert other.sending is not None
    assert other.sending.token != ledger.sending.token


def test_another_process_takes_over_what_has_been_under_way_for_long(used: Ledger) -> None:
    ledger = next_record(used, ELEVEN)
    assert mine(ledger, ELEVEN + TAKE_OVER_AFTER - timedelta(seconds=1), by="other") == ledger
    taken = mine(ledger, ELEVEN + TAKE_OVER_AFTER, by="other")
    assert ledger.sending is not None
    assert taken.sending == replace(ledger.sending, by="other", since=ELEVEN + TAKE_OVER_AFTER)
    assert mine(ledger, ELEVEN, by="me") == ledger


def test_what_aws_has_refused_and_takes_no_more_is_told_with_the_next_hour(used: Ledger) -> None:
    ledger = next_record(used, ELEVEN)
    assert ledger.sending is not None
    back = too_late(refused(ledger, ledger.sending), ledger.sending)
    assert (back.sending, back.cell_seconds, back.told) == (None, used.cell_seconds, None)


def test_what_aws_may_have_is_not_told_again(used: Ledger) -> None:
    ledger = next_record(used, ELEVEN)
    assert ledger.sending is not None
    assert ledger.sending.unsure
    assert too_late(ledger, ledger.sending).cell_seconds == 0.5 * HOUR_S
    sent_again = doubted(refused(ledger, ledger.sending), ledger.sending)
    assert too_late(sent_again, ledger.sending).cell_seconds == 0.5 * HOUR_S


@pytest.mark.parametrize("change", [settled, doubted, refused, too_late])
def test_late_news_of_another_record_changes_nothing(used: Ledger, change: object) -> None:
    ledger = next_record(used, ELEVEN)
    assert ledger.sending is not None
    other = replace(ledger.sending, token="another")
    assert change(ledger, other) == ledger  # type: ignore[operator]
    assert change(used, other) == used  # type: ignore[operator]


def test_written_and_read_it_is_the_same(used: Ledger) -> None:
    for ledger in (Ledger(), used, next_record(used, ELEVEN)):
        assert Ledger.from_dict(ledger.to_dict()) == ledger


def test_hours() -> None:
    assert floor(HALF_PAST + timedelta(microseconds=5)) == TEN
