"""Times as Kubernetes writes them, and a clock that only tests move."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kip.model.backoff import Backoff
from kip.model.clock import (
    ManualClock,
    SystemClock,
    age,
    from_rfc3339,
    pause,
    settle,
    to_rfc3339,
    to_rfc3339_micro,
)

MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC))


@given(MOMENTS)
def test_what_is_written_is_read_again(moment):
    assert from_rfc3339(to_rfc3339_micro(moment)) == moment
    assert from_rfc3339(to_rfc3339(moment)) == moment.replace(microsecond=0)


def test_every_zone_is_written_in_utc():
    moment = datetime(2026, 5, 4, 14, 0, tzinfo=timezone(timedelta(hours=2)))
    assert to_rfc3339(moment) == "2026-05-04T12:00:00Z"
    assert to_rfc3339_micro(moment) == "2026-05-04T12:00:00.000000Z"


def test_what_is_no_time_is_refused():
    with pytest.raises(ValueError, match="yesterday"):
        from_rfc3339("yesterday")


async def test_sleepers_wake_in_their_order_and_see_their_own_time():
    clock, woken = ManualClock(), []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.monotonic()))

    tasks = [asyncio.create_task(sleep(s)) for s in (3, 1, 2)]
    await clock.advance(2.5)
    assert woken == [(1, 1.0), (2, 2.0)]
    assert clock.monotonic() == 2.5
    await clock.advance(1)
    assert woken[-1] == (3, 3.0)
    await asyncio.gather(*tasks)


async def test_a_sleeper_that_sleeps_again_does_so_from_when_it_woke():
    clock, woken = ManualClock(), []

    async def tick() -> None:
        for _ in range(3):
            await clock.sleep(1)
            woken.append(clock.monotonic())

    task = asyncio.create_task(tick())
    await clock.advance(10)
    assert woken == [1.0, 2.0, 3.0]
    await task


async def test_a_cancelled_sleeper_is_no_trouble():
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep(1))
    await settle()
    task.cancel()
    await clock.advance(2)
    assert task.cancelled()


async def test_the_real_clock_goes_on():
    clock = SystemClock()
    before, started = clock.now(), clock.monotonic()
    await clock.sleep(0.01)
    assert clock.now() >= before
    assert clock.monotonic() - started >= 0.009
    assert clock.now().tzinfo is UTC


def test_delays_double_up_to_their_limit():
    backoff = Backoff(first_s=0.2, limit_s=10)
    assert [backoff.delay_s(n) for n in range(8)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]


def test_any_number_of_failures_has_a_delay():
    """2**1024 is beyond a float: after some hours of failures that was an error of its own."""
    assert Backoff(first_s=0.2, limit_s=10).delay_s(10**9) == 10


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (61, "1m1s"),
        (659, "10m"),
        (3600, "1h"),
        (90061, "1d1h"),
        (10**6, "11d"),
    ],
)
def test_ages(seconds: float, told: str) -> None:
    assert age(seconds) == told


async def test_a_pause_lasts_its_time_unless_the_event_is_set() -> None:
    clock, called = ManualClock(), asyncio.Event()
    pausing = asyncio.create_task(pause(clock, 10, unless=called))
    await clock.advance(9)
    assert not pausing.done()
    await clock.advance(1)
    assert pausing.done()
    pausing = asyncio.create_task(pause(clock, 10, unless=called))
    await settle()
    assert not pausing.done()
    called.set()
    await settle()
    assert pausing.done()


async def test_a_pause_that_is_cancelled_leaves_nothing_behind() -> None:
    clock, before = ManualClock(), len(asyncio.all_tasks())
    pausing = asyncio.create_task(pause(clock, 10, unless=asyncio.Event()))
    await settle()
    pausing.cancel()
    await settle()
    assert len(asyncio.all_tasks()) == before
