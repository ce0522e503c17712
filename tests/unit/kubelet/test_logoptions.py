from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kip.kubelet.http1 import HttpError
from kip.kubelet.logoptions import LogOptions, parse, to_ns

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
NOW_NS = 1767323045_678000000


def options(query: str) -> LogOptions:
    return parse(parse_qsl(query, keep_blank_values=True), NOW)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", LogOptions()),
        ("container=c&insecureSkipTLSVerifyBackend=true&unknown=1", LogOptions()),
        (
            "follow=true&previous=true&timestamps=true",
            LogOptions(follow=True, previous=True, timestamps=True),
        ),
        ("follow=false&previous=False&timestamps=0", LogOptions()),
        ("follow=&timestamps=whatever", LogOptions(follow=True, timestamps=True)),
        ("tailLines=0", LogOptions(tail_lines=0)),
        ("tailLines=10&tailLines=99", LogOptions(tail_lines=10)),
        ("tail=7&tailLines=5", LogOptions(tail_lines=7)),
        ("tail=all&tailLines=5", LogOptions()),
        ("tail=&tailLines=5", LogOptions(tail_lines=5)),
        ("limitBytes=1", LogOptions(limit_bytes=1)),
        ("sinceSeconds=5", LogOptions(since_ns=NOW_NS - 5 * 10**9)),
        ("sinceTime=2026-01-02T03:04:05Z", LogOptions(since_ns=NOW_NS - 678000000)),
        ("sinceTime=2026-01-02T05:04:05.5%2B02:00", LogOptions(since_ns=NOW_NS - 178000000)),
        ("sinceTime=", LogOptions()),
        ("sinceTime=null", LogOptions()),
        ("stream=All", LogOptions()),
    ],
)
def test_good(query: str, expected: LogOptions) -> None:
    assert options(query) == expected


@pytest.mark.parametrize(
    ("query", "status", "name"),
    [
        ("tailLines=-1", 422, "tailLines"),
        ("tailLines=ten", 400, "tailLines"),
        ("tailLines=", 400, "tailLines"),
        ("tail=some", 400, "tailLines"),
        ("tailLines=9223372036854775808", 400, "tailLines"),
        ("tailLines=1.5", 400, "tailLines"),
        ("limitBytes=0", 422, "limitBytes"),
        ("limitBytes=1k", 400, "limitBytes"),
        ("sinceSeconds=0", 422, "sinceSeconds"),
        ("sinceSeconds=-5", 422, "sinceSeconds"),
        ("sinceSeconds=1h", 400, "sinceSeconds"),
        ("sinceTime=yesterday", 400, "sinceTime"),
        ("sinceTime=2026-01-02", 400, "sinceTime"),
        ("sinceTime=2026-13-02T00:00:00Z", 400, "sinceTime"),
        ("sinceTime=2026-01-02T03:04:05Z&sinceSeconds=5", 422, "sinceTime and sinceSeconds"),
        ("stream=Stdout", 400, "stream"),
    ],
)
def test_bad_values_are_refused_by_name(query: str, status: int, name: str) -> None:
    with pytest.raises(HttpError) as refused:
        options(query)
    assert refused.value.status == status
    assert name in refused.value.message


NAMES = st.sampled_from(["tailLines", "tail", "sinceSeconds", "sinceTime", "limitBytes", "stream", "x"])


@given(st.lists(st.tuples(NAMES, st.text())))
def test_whatever_is_asked_is_an_option_or_a_refusal(query: list[tuple[str, str]]) -> None:
    status = 200
    try:
        parse(query, NOW)
    except HttpError as error:
        status = error.status
    assert status in (200, 400, 422)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T01:00:00.000000001+01:00", 1),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("1970-01-01T00:00:00", None),
        ("1970-01-01 00:00:00Z", None),
        ("1970-01-01T00:00:60Z", None),
        ("hello", None),
        ("", None),
    ],
)
def test_times_to_the_nanosecond(text: str, expected: int | None) -> None:
    assert to_ns(text) == expected
