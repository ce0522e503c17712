"""Which answers are too slow."""

from __future__ import annotations

import pytest

from kip.oci.pace import Least, Pace

LEAST = Least(bytes=1024, within_s=30)


def test_a_byte_now_and_then_is_too_slow() -> None:
    pace = Pace(LEAST)
    assert pace.too_slow(1, 29) == ""
    assert pace.too_slow(1, 29) == "2 bytes came in 58 s; expected at least 1Ki in 30 s"


def test_what_comes_after_a_good_beginning_counts_for_itself() -> None:
    pace = Pace(LEAST)
    assert pace.too_slow(1_000_000, 30) == ""
    assert pace.too_slow(1023, 30)


def test_just_enough_is_enough_for_ever() -> None:
    pace = Pace(LEAST)
    assert not any(pace.too_slow(128, 3) for _ in range(10_000))


@pytest.mark.parametrize("number", [1, 1000])
def test_only_waiting_counts(number: int) -> None:
    """However long its reader takes in between, a server whose bytes are there when they are asked for is fast."""
    pace = Pace(LEAST)
    assert not any(pace.too_slow(1, 0.001) for _ in range(number))
