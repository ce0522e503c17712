"""What `kip logs --follow` takes for new."""

from __future__ import annotations

from datetime import UTC, datetime

from kip.logs import follow
from kip.logs.follow import Following

FILE = "-- /var/log/cloud-init-output.log\n"


def line(second: int, text: str = "Started") -> str:
    return f"2026-01-01T00:00:{second:02}+00:00 cell kubelet[7]: {text}\n"


def test_the_first_answer_is_shown_as_it_is() -> None:
    following = Following()
    assert following.fresh("the end of a line\n" + line(1)) == ("the end of a line\n" + line(1), False)
    assert following.since == datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)


def test_the_last_second_comes_again_and_is_not_shown_again() -> None:
    following = Following()
    following.fresh(line(1) + line(2, "a"))
    assert following.fresh(line(2, "a") + line(2, "b") + line(3)) == (line(2, "b") + line(3), False)
    assert following.fresh(line(3)) == ("", False)
    assert following.fresh("") == ("", False)
    assert following.fresh(line(3) + line(4)) == (line(4), False)
    assert following.since == datetime(2026, 1, 1, 0, 0, 4, tzinfo=UTC)


def test_the_same_line_twice_in_a_second_is_two() -> None:
    following = Following()
    following.fresh(line(1))
    assert following.fresh(line(1) + line(1)) == (line(1), False)
    assert following.fresh(line(1) + line(1)) == ("", False)


def test_what_was_left_out_at_first_does_not_come_later() -> None:
    following = Following()
    following.fresh(line(2, "c"))
    assert following.fresh(line(2, "a") + line(2, "b") + line(2, "c") + line(2, "d")) == (
        line(2, "d"),
        False,
    )


def test_a_message_of_several_lines_is_one() -> None:
    message = line(1, "panic") + "    goroutine 1\n    goroutine 2\n"
    following = Following()
    following.fresh(message)
    assert following.fresh(message + line(2)) == (line(2), False)


def test_systemd_before_version_258_writes_a_zone_without_a_colon() -> None:
    following = Following()
    following.fresh("2026-01-01T00:00:07+0000 cell kubelet[7]: Started\n")
    assert following.since == datetime(2026, 1, 1, 0, 0, 7, tzinfo=UTC)


def test_lines_that_are_missing_are_told() -> None:
    following = Following()
    following.fresh(line(1))
    many = line(2, "x") * follow.MOST_NEW_LINES
    assert following.fresh(many) == (many, True)


def test_the_file_of_the_scripts_is_followed_too() -> None:
    following = Following()
    following.fresh(line(1) + FILE + "two\n")
    assert following.fresh(line(1) + FILE + "one\ntwo\nthree\n") == ("three\n", False)
    assert following.fresh(FILE + "one\ntwo\nthree\nthree\n") == ("three\n", False)
    assert following.fresh(line(1)) == ("", False)
    assert following.fresh(FILE + "three\nthree\nfour\n") == ("four\n", False)


def test_the_file_comes_only_later() -> None:
    following = Following()
    following.fresh(line(1))
    assert following.fresh(line(1) + FILE + "one\n") == ("one\n", False)
