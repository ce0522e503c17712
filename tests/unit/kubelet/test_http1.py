from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kip.kubelet.http1 import (
    Answer,
    BadMessage,
    HttpError,
    Response,
    parse_request,
    parse_response,
    read_body,
    read_head,
)


class Pieces:
    """A stream that comes in given pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = [piece for piece in pieces if piece]

    async def read(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    def unread(self, data: bytes) -> None:
        if data:
            self._pieces.insert(0, data)

    @property
    def rest(self) -> bytes:
        return b"".join(self._pieces)


def chopped(data: bytes, cuts: list[int]) -> Pieces:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return Pieces(*(data[a:b] for a, b in pairwise(places)))


async def body_of(stream: Pieces, head: Response) -> bytes:
    return b"".join([data async for data in read_body(stream, head)])


HEAD = b"POST /exec/ns/pod/c?command=ls&command=-l HTTP/1.1\r\nHost: 10.0.0.1:10250\r\nX-A: b\r\nx-a:  c \r\n\r\n"


@given(st.lists(st.integers(min_value=0, max_value=1000)))
async def test_a_head_in_any_pieces_is_read_to_its_end_and_no_further(cuts: list[int]) -> None:
    stream = chopped(HEAD + b"rest of it", cuts)
    assert await read_head(stream) == HEAD
    assert stream.rest == b"rest of it"


async def test_no_head_at_all() -> None:
    assert await read_head(Pieces()) == b""


async def test_half_a_head() -> None:
    with pytest.raises(BadMessage, match="within the head"):
        await read_head(Pieces(b"GET / HT"))


async def test_a_head_without_an_end() -> None:
    with pytest.raises(HttpError) as refused:
        await read_head(Pieces(*[b"x" * 100] * 50), limit=1000)
    assert refused.value.status == 431


def test_a_request_keeps_its_fields_in_order() -> None:
    request = parse_request(HEAD)
    assert (request.method, request.path) == ("POST", "/exec/ns/pod/c")
    assert request.query == [("command", "ls"), ("command", "-l")]
    assert request.fields == (("Host", "10.0.0.1:10250"), ("X-A", "b"), ("x-a", "c"))
    assert request.get("x-A") == "b"
    assert request.tokens("X-a") == {"b", "c"}
    assert parse_request(request.encode()) == request


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/2.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"GET http://other/exec HTTP/1.1\r\n\r\n",
        b"get / HTTP/1.1\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\rC: d\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    ],
)
def test_what_two_readers_could_read_differently_is_refused(raw: bytes) -> None:
    with pytest.raises(BadMessage):
        parse_request(raw)


@given(
    st.binary(max_size=200),
    st.lists(st.integers(min_value=1, max_value=50), max_size=5),
    st.lists(st.integers(0, 999)),
)
async def test_a_chunked_body_comes_back_whole(body: bytes, sizes: list[int], cuts: list[int]) -> None:
    encoded, at = b"", 0
    for size in [*sizes, len(body)]:
        part = body[at : at + size]
        at += len(part)
        if part:
            encoded += b"%x;ext=1\r\n%s\r\n" % (len(part), part)
    encoded += b"0\r\nTrailer: x\r\n\r\n"
    head = parse_response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    stream = chopped(encoded + b"next", cuts)
    assert await body_of(stream, head) == body
    assert stream.rest == b"next"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Content-Length: 10", b"short"),
        (b"Transfer-Encoding: chunked", b"5\r\nhel"),
        (b"Transfer-Encoding: chunked", b"5\r\nhello\r\n"),
        (b"Transfer-Encoding: chunked", b"5\r\nhello!\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: chunked", b"-5\r\nhello\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: chunked", b"5" * 1000),
        (b"Content-Length: ten", b"0123456789"),
    ],
)
async def test_a_body_cut_short_or_misframed_is_an_error(head: bytes, body: bytes) -> None:
    with pytest.raises(BadMessage):
        await body_of(Pieces(body), parse_response(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n"))


async def test_a_body_by_length_leaves_what_follows() -> None:
    stream = Pieces(b"hel", b"lo, world")
    assert await body_of(stream, parse_response(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")) == b"hello"
    assert stream.rest == b", world"


async def test_a_body_until_the_connection_ends() -> None:
    assert await body_of(Pieces(b"a", b"b"), parse_response(b"HTTP/1.0 200 OK\r\n\r\n")) == b"ab"


def test_a_response_may_have_no_reason() -> None:
    assert parse_response(b"HTTP/1.1 101\r\n\r\n").status == 101
    with pytest.raises(BadMessage):
        parse_response(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


def test_an_answer_says_that_the_connection_ends() -> None:
    encoded = Answer(404, b"no", fields=(("X-A", "b"),)).encode()
    head = parse_response(encoded.partition(b"no")[0])
    assert (head.status, head.get("connection"), head.get("content-length"), head.get("x-a")) == (
        404,
        "close",
        "2",
        "b",
    )
