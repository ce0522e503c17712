"""Waits have a deadline and tell what was seen."""

import pytest

from kip.local.waiting import NotReadyError, until


class Clock:
    """Moves only when somebody pauses."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


def test_returns_as_soon_as_nothing_is_missing() -> None:
    clock, answers = Clock(), iter(["a", "b", None])
    until(lambda: next(answers), what="it", seconds=10, clock=clock, pause=clock.pause)
    assert clock.now < 0.1


def test_a_failed_wait_tells_what_was_seen_last() -> None:
    clock = Clock()
    with pytest.raises(NotReadyError, match=r"it: not ready after 3 s: no answer"):
        until(lambda: "no answer", what="it", seconds=3, clock=clock, pause=clock.pause)
    assert 3 <= clock.now < 3.5


def test_what_is_ready_needs_no_time() -> None:
    until(lambda: None, what="it", seconds=0)
