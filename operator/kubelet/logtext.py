"""A log as text: its last part, and the part of it that somebody asks for. Pure.

The text is what a kubelet answers with `timestamps=true`: every line begins with its time in RFC 3339 and a space.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from io import BytesIO

from kip.kubelet.logoptions import LogOptions, to_ns

# Nothing that a kubelet writes as a time is longer (nanoseconds and a zone).
_TIME_BYTES = 40


class Tail:
    """Keeps the last `limit` bytes of what it is fed, from the beginning of a line on."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._fed = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._chunks.append(data)
        self._held += len(data)
        self._fed += len(data)
        # What is left is always longer than the limit: its first bytes show whether a line begins at the cut.
        while self._held - len(self._chunks[0]) > self._limit:
            self._held -= len(self._chunks.popleft())

    def result(self) -> tuple[bytes, int]:
        """The last lines, and how many bytes before them are not there."""
        text = last_lines(b"".join(self._chunks), self._limit)
        return text, self._fed - len(text)


def last_lines(text: bytes, limit: int) -> bytes:
    """The last whole lines of at most `limit` bytes; of a last line that is longer, its end."""
    if len(text) <= limit:
        return text
    start = len(text) - limit
    line_start = start if text[start - 1 : start] == b"\n" else text.find(b"\n", start) + 1
    return text[line_start:] if 0 < line_start < len(text) else text[start:]


def select(text: bytes, options: LogOptions) -> bytes:
    """What a kubelet would answer for this log and these options.

    In its order: the last lines, of these the ones not older than asked for, of these so many bytes (the last line may
    be cut, and times count).
    """
    lines = BytesIO(text).readlines()  # at \n and nothing else: a program's \r is part of its line
    if options.tail_lines is not None:
        lines = lines[len(lines) - min(options.tail_lines, len(lines)) :]
    if options.since_ns is not None:
        lines = list(_not_before(lines, options.since_ns))
    if not options.timestamps:
        lines = [line[time_length(line) :] for line in lines]
    selected = b"".join(lines)
    return selected if options.limit_bytes is None else selected[: options.limit_bytes]


def with_notice(text: bytes, dropped: int) -> bytes:
    """The text with a first line that says how much is missing before it; its time is that of the next line."""
    if not dropped:
        return text
    time = text[: time_length(text)] or b"1970-01-01T00:00:00.000000000Z "
    return time + f"[kip: the {dropped} bytes of this log before this line were not kept]\n".encode() + text


def time_length(line: bytes) -> int:
    """Length of the time at the line's begin with the space after it; 0 if there is none."""
    end = line.find(b" ", 0, _TIME_BYTES)
    if end < 0 or to_ns(line[:end].decode("latin-1")) is None:
        return 0
    return end + 1


def _not_before(lines: list[bytes], since_ns: int) -> Iterator[bytes]:
    for line in lines:
        length = time_length(line)
        moment = to_ns(line[: length - 1].decode("latin-1")) if length else None
        if moment is None or moment >= since_ns:
            yield line
