"""Heads of HTTP/1.1 messages, and the bodies of the cells' answers.

Written for a proxy that must know where a request goes and nothing else: heads are taken apart strictly (a line that
two readers could understand differently is refused), and put together again with everything else as it came.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Protocol
from urllib.parse import parse_qsl

# Go's http.DefaultMaxHeaderBytes, so a kubelet's own limit: the command of an exec travels in the query.
MAX_HEAD_BYTES = 1 << 20

_END_OF_HEAD = b"\r\n\r\n"
_REQUEST_LINE = re.compile(r"([A-Z]+) (/[\x21-\x7e]*) HTTP/1\.([01])")
_STATUS_LINE = re.compile(r"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?")
_FIELD = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")

Fields = tuple[tuple[str, str], ...]


class HttpError(Exception):
    """An answer that ends the request: a status and a sentence for people."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class BadMessage(Exception):
    """The peer's message is not HTTP/1.1 as written here; the text says what is wrong."""


class ByteStream(Protocol):
    """Where messages are read from."""

    async def read(self) -> bytes:
        """The next bytes, b"" at the end."""
        ...

    def unread(self, data: bytes) -> None:
        """Give back bytes that were read too far."""
        ...


@dataclass(frozen=True, slots=True)
class Head:
    """The header fields of a message, in their order."""

    fields: Fields

    def get(self, name: str) -> str | None:
        """The first value of a field."""
        return next((value for key, value in self.fields if key.lower() == name.lower()), None)

    def tokens(self, name: str) -> frozenset[str]:
        """A list-valued field's elements in lower case (`Connection: keep-alive, Upgrade`)."""
        values = (value for key, value in self.fields if key.lower() == name.lower())
        return frozenset(
            part.strip().lower() for value in values for part in value.split(",") if part.strip()
        )


@dataclass(frozen=True, slots=True)
class Request(Head):
    """A request's head."""

    method: str
    target: str

    @property
    def path(self) -> str:
        """The target without its query, not decoded."""
        return self.target.partition("?")[0]

    @property
    def query_string(self) -> str:
        """The target's part behind the question mark, not decoded."""
        return self.target.partition("?")[2]

    @property
    def query(self) -> list[tuple[str, str]]:
        """The decoded parameters, in their order."""
        return parse_qsl(self.query_string, keep_blank_values=True)

    def with_fields(self, fields: Sequence[tuple[str, str]]) -> Request:
        """The same request with these fields in place of its own."""
        return replace(self, fields=tuple(fields))

    def encode(self) -> bytes:
        """The head as bytes, the empty line included."""
        lines = [
            f"{self.method} {self.target} HTTP/1.1",
            *(f"{name}: {value}" for name, value in self.fields),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@dataclass(frozen=True, slots=True)
class Response(Head):
    """A response's head."""

    status: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer made here."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    fields: Fields = ()

    def encode(self) -> bytes:
        """The message; it says that the connection ends with it."""
        try:
            reason = HTTPStatus(self.status).phrase
        except ValueError:
            reason = "Status"
        lines = [
            f"HTTP/1.1 {self.status} {reason}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            "Connection: close",
            *(f"{name}: {value}" for name, value in self.fields),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + self.body


async def read_head(stream: ByteStream, limit: int = MAX_HEAD_BYTES) -> bytes:
    """Read up to and with the empty line; b"" if the stream ends before anything came.

    Raises BadMessage if it ends within the head, HttpError 431 beyond `limit` bytes.
    """
    head = bytearray()
    while True:
        data = await stream.read()
        if not data:
            if head:
                raise BadMessage("the connection ended within the head of a message")
            return b""
        search_from = max(0, len(head) - len(_END_OF_HEAD))
        head += data
        end = head.find(_END_OF_HEAD, search_from)
        if end >= 0:
            end += len(_END_OF_HEAD)
            stream.unread(bytes(head[end:]))
            return bytes(head[:end])
        if len(head) > limit:
            raise HttpError(431, f"the request's head is longer than {limit} bytes")


def parse_request(raw: bytes) -> Request:
    """Raises BadMessage when the head is not plain HTTP/1.1 in origin form (`GET /path?query`)."""
    first, fields = _split(raw)
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise BadMessage(f"not an HTTP/1.1 request for a path: {first[:80]!r}")
    request = Request(fields=fields, method=match[1], target=match[2])
    _check_framing(request)
    return request


def parse_response(raw: bytes) -> Response:
    """Raises BadMessage when this is not the head of an HTTP/1.1 response."""
    first, fields = _split(raw)
    match = _STATUS_LINE.fullmatch(first)
    if match is None:
        raise BadMessage(f"not an HTTP/1.1 response: {first[:80]!r}")
    return Response(fields=fields, status=int(match[1]))


async def read_body(stream: ByteStream, head: Response) -> AsyncIterator[bytes]:
    """The body of a response, decoded from its framing; raises BadMessage when it is cut short."""
    length = head.get("content-length")
    if head.status in (204, 304):
        return
    if "chunked" in head.tokens("transfer-encoding"):
        async for data in _chunks(stream):
            yield data
    elif length is not None:
        async for data in _exactly(stream, _decimal(length)):
            yield data
    else:
        while data := await stream.read():
            yield data


async def request_body(stream: ByteStream, head: Request) -> AsyncIterator[bytes]:
    """The body of a request in its own framing, and nothing of what follows; raises BadMessage when it is cut short."""
    if head.get("transfer-encoding") is not None:
        async for data in _chunks(stream):
            yield b"%x\r\n%b\r\n" % (len(data), data)
        yield b"0\r\n\r\n"
    else:
        async for data in _exactly(stream, int(head.get("content-length") or 0)):
            yield data


def _split(raw: bytes) -> tuple[str, Fields]:
    first, *lines = raw.removesuffix(_END_OF_HEAD).decode("latin-1").split("\r\n")
    fields = []
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise BadMessage(f"not a header field: {line[:80]!r}")
        fields.append((match[1], match[2]))
    return first, tuple(fields)


def _check_framing(request: Request) -> None:
    """Refuse what two servers could read as different numbers of requests (RFC 9112, section 6.3)."""
    lengths = [value for name, value in request.fields if name.lower() == "content-length"]
    coded = request.get("transfer-encoding")
    if len(lengths) > 1 or (lengths and coded is not None):
        raise BadMessage("more than one statement of the body's length")
    if coded is not None and coded.lower() != "chunked":
        raise BadMessage(f"Transfer-Encoding {coded[:80]!r}, expected chunked")
    if lengths:
        _decimal(lengths[0])


def _decimal(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise BadMessage(f"Content-Length {text[:80]!r}, expected a decimal number")
    return int(text)


async def _exactly(stream: ByteStream, count: int) -> AsyncIterator[bytes]:
    while count:
        data = await stream.read()
        if not data:
            raise BadMessage(f"the connection ended {count} bytes before the body did")
        stream.unread(data[count:])
        data = data[:count]
        count -= len(data)
        yield data


async def _line(stream: ByteStream) -> bytes:
    line = bytearray()
    while b"\n" not in line:
        data = await stream.read()
        if not data:
            raise BadMessage("the connection ended between two chunks")
        line += data
        if len(line) > len(data) + 256:
            raise BadMessage("a chunk's size line is too long")
    line, _, rest = line.partition(b"\n")
    stream.unread(bytes(rest))
    return bytes(line.rstrip(b"\r"))


async def _chunks(stream: ByteStream) -> AsyncIterator[bytes]:
    while True:
        size = (await _line(stream)).partition(b";")[0].strip()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", size):
            raise BadMessage(f"not the size of a chunk: {size[:80]!r}")
        if int(size, 16) == 0:
            while await _line(stream):  # trailer
                pass
            return
        async for data in _exactly(stream, int(size, 16)):
            yield data
        if await _line(stream):
            raise BadMessage("a chunk is longer than it says")
