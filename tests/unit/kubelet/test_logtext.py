from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kip.kubelet.logoptions import LogOptions
from kip.kubelet.logtext import Tail, last_lines, select, time_length, with_notice

LOG = (
    b"2026-01-01T00:00:00.000000000Z one\n"
    b"2026-01-01T00:00:01.500000000Z two\n"
    b"2026-01-01T00:00:02.000000001Z \n"
    b"2026-01-01T00:00:03.000000000+00:00 four\rmore\n"
    b"2026-01-01T00:00:04.000000000Z no end"
)
SECOND = 10**9
START = 1767225600 * SECOND

lines = st.lists(st.binary(max_size=30).map(lambda text: text.replace(b"\n", b"")), max_size=20)


def stamped(texts: list[bytes]) -> bytes:
    return b"".join(b"2026-01-01T00:00:%02d.000000000Z %b\n" % (i, text) for i, text in enumerate(texts))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (LogOptions(), b"one\ntwo\n\nfour\rmore\nno end"),
        (LogOptions(follow=True), b"one\ntwo\n\nfour\rmore\nno end"),
        (LogOptions(timestamps=True), LOG),
        (LogOptions(tail_lines=0), b""),
        (LogOptions(tail_lines=2), b"four\rmore\nno end"),
        (LogOptions(tail_lines=99), b"one\ntwo\n\nfour\rmore\nno end"),
        (LogOptions(since_ns=START + 3 * SECOND // 2), b"two\n\nfour\rmore\nno end"),
        (LogOptions(since_ns=START + 3 * SECOND // 2 + 1), b"\nfour\rmore\nno end"),
        (LogOptions(since_ns=START + 9 * SECOND), b""),
        (LogOptions(tail_lines=4, since_ns=START), b"two\n\nfour\rmore\nno end"),
        (LogOptions(limit_bytes=5), b"one\nt"),
        (LogOptions(limit_bytes=5, tail_lines=1), b"no en"),
        (LogOptions(limit_bytes=10, timestamps=True), b"2026-01-01"),
    ],
)
def test_select(options: LogOptions, expected: bytes) -> None:
    assert select(LOG, options) == expected


@pytest.mark.parametrize("text", [b"", b"\n", b"no time\n", b"2026 x\n", b"\xff\xfe \n"])
def test_lines_without_a_time_are_shown_as_they_are(text: bytes) -> None:
    for options in (LogOptions(), LogOptions(timestamps=True), LogOptions(since_ns=START)):
        assert select(text, options) == text


@given(lines)
def test_without_times_it_is_what_the_program_wrote(texts: list[bytes]) -> None:
    assert select(stamped(texts), LogOptions()) == b"".join(text + b"\n" for text in texts)


@given(lines, st.integers(0, 25), st.integers(0, 25), st.integers(1, 500), st.booleans())
def test_options_combine_in_the_kubelets_order(
    texts: list[bytes], tail: int, since: int, limit: int, timestamps: bool
) -> None:
    everything = LogOptions(
        tail_lines=tail, since_ns=START + since * SECOND, limit_bytes=limit, timestamps=timestamps
    )
    expected = [(i, text) for i, text in enumerate(texts)]
    expected = [(i, text) for i, text in expected[max(0, len(expected) - tail) :] if i >= since]
    full = b"".join(
        (b"2026-01-01T00:00:%02d.000000000Z " % i if timestamps else b"") + text + b"\n"
        for i, text in expected
    )
    assert select(stamped(texts), everything) == full[:limit]


@given(lines, st.integers(1, 400), st.lists(st.integers(0, 2000)))
def test_a_tail_is_the_same_however_it_comes(texts: list[bytes], limit: int, cuts: list[int]) -> None:
    text = stamped(texts)
    places = sorted({cut % (len(text) + 1) for cut in cuts} | {0, len(text)})
    tail = Tail(limit)
    for begin, end in pairwise(places):
        tail.feed(text[begin:end])
    kept, dropped = tail.result()
    assert kept == last_lines(text, limit)
    assert dropped == len(text) - len(kept)
    assert text.endswith(kept)
    assert len(kept) <= limit
    whole = [line + b"\n" for line in text.split(b"\n")[:-1]]
    if whole and len(whole[-1]) <= limit:
        # As many whole lines as fit.
        count = kept.count(b"\n")
        assert kept == b"".join(whole[len(whole) - count :])
        assert count == len(whole) or len(kept) + len(whole[-count - 1]) > limit


def test_of_a_line_longer_than_the_limit_its_end_is_kept() -> None:
    assert last_lines(b"x" * 100 + b"end\n", 10) == b"xxxxxxend\n"
    assert last_lines(b"a\n" + b"x" * 100, 10) == b"x" * 10


def test_nothing_fed_is_nothing_kept() -> None:
    assert Tail(10).result() == (b"", 0)


def test_the_notice_is_a_line_with_the_next_lines_time() -> None:
    assert with_notice(LOG, 0) == LOG
    noted = with_notice(LOG, 12345)
    assert noted.endswith(LOG)
    first = noted.split(b"\n")[0]
    assert first.startswith(b"2026-01-01T00:00:00.000000000Z [kip: ")
    assert b"12345 bytes" in first
    assert time_length(with_notice(b"end of a line\n", 5)) > 0
