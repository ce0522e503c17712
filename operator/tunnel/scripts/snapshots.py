"""Makes snapshots in a cell's containerd over its socket, where each call of `ctr` takes as long as a program to start.

Reads `prepare KEY PARENT` (`-` for none) and `commit NAME KEY`, each in a line, and answers each by a line: `ok` and of a
new snapshot its directory, or `no`: then `ctr` is asked, which also says why. Ends with its input, or with the connection.

Nothing may be installed on a cell, and this is as much of gRPC as two calls need whose answers are small: HTTP/2 (RFC 9113)
with headers that are written out (RFC 7541, 6.2.2), one call after the other; no header of an answer is read. It has to run
with the Python 3.9 of Amazon Linux 2023.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator

# containerd's api/services/snapshots/v1/snapshots.proto.
_SERVICE = b"/containerd.services.snapshots.v1.Snapshots/"
_SNAPSHOTTER, _KEY, _PARENT, _LABELS = 1, 2, 3, 4  # of PrepareSnapshotRequest
_NAME, _COMMITTED = 2, 3  # of CommitSnapshotRequest
_SOURCE, _OPTIONS = 2, 4  # of Mount

_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GO_AWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM = _ACK = 1
_END_HEADERS = 4
_PATIENCE_S = 10.0


class Containerd:
    """A connection, for calls one after the other."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_PATIENCE_S)
        self._socket.connect(address)
        self._incoming = self._socket.makefile("rb")
        self._stream = -1
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self._send(_SETTINGS, 0, 0, b"")
        # All answers together may be longer than the 64 kB that are allowed at first.
        self._send(_WINDOW, 0, 0, (2**31 - 1 - 65_535).to_bytes(4, "big"))

    def call(self, method: bytes, request: bytes) -> bytes | None:
        """The answer; None for an error, which comes as headers without a message. Raises OSError, EOFError."""
        self._stream += 2
        headers = {
            b":method": b"POST",
            b":scheme": b"http",
            b":path": _SERVICE + method,
            b":authority": b"localhost",
            b"content-type": b"application/grpc",
            b"te": b"trailers",
            b"containerd-namespace": b"k8s.io",
        }
        self._send(_HEADERS, _END_HEADERS, self._stream, b"".join(map(_header, headers, headers.values())))
        self._send(_DATA, _END_STREAM, self._stream, b"\0" + len(request).to_bytes(4, "big") + request)
        answer = b""
        while True:
            kind, flags, stream, payload = self._receive()
            if kind == _DATA:
                answer += payload
            if stream == self._stream and kind in (_DATA, _HEADERS) and flags & _END_STREAM:
                return answer[5:] if answer else None

    def _send(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
        self._socket.sendall(head + payload)

    def _receive(self) -> tuple[int, int, int, bytes]:
        """The next frame. What is about the connection is answered on the way."""
        head = self._incoming.read(9)
        payload = self._incoming.read(int.from_bytes(head[:3], "big"))
        if len(head) < 9:
            raise EOFError
        kind, flags = head[3], head[4]
        if kind in (_RESET, _GO_AWAY):
            raise EOFError
        if kind in (_SETTINGS, _PING) and not flags & _ACK:
            self._send(kind, _ACK, 0, payload if kind == _PING else b"")
        return kind, flags, int.from_bytes(head[5:], "big"), payload


def _header(name: bytes, value: bytes) -> bytes:
    """A literal that is not to be remembered. All of ours are shorter than 127 bytes, where lengths are one byte."""
    return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value


def _field(number: int, value: bytes) -> bytes:
    """A text or a message as a field of protobuf."""
    length, rest = b"", len(value)
    while rest > 127:
        length += bytes((rest & 127 | 128,))
        rest >>= 7
    return bytes((number << 3 | 2,)) + length + bytes((rest,)) + value


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message that has only texts and messages, whose numbers are below 16."""
    at = 0
    while at < len(message):
        number, size, shift = message[at] >> 3, 0, 0
        while True:
            at += 1
            size |= (message[at] & 127) << shift
            shift += 7
            if message[at] < 128:
                break
        yield number, message[at + 1 : at + 1 + size]
        at += 1 + size


def _labels() -> bytes:
    """Without them containerd would collect what no image refers to yet."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()).encode()
    return _field(_LABELS, _field(1, b"containerd.io/gc.root") + _field(2, now))


def _directory(answer: bytes) -> bytes:
    """Where the content goes: the lowest snapshot is a bind mount, the others are overlays."""
    mount = [*_fields(next(value for _, value in _fields(answer)))]
    upper = [
        value[len(b"upperdir=") :] for n, value in mount if n == _OPTIONS and value.startswith(b"upperdir=")
    ]
    return upper[0] if upper else next(value for number, value in mount if number == _SOURCE)


def _answer(containerd: Containerd, line: bytes) -> bytes:
    what, one, two = line.split()
    request = _field(_SNAPSHOTTER, b"overlayfs")
    if what == b"prepare":
        parent = b"" if two == b"-" else _field(_PARENT, two)
        made = containerd.call(b"Prepare", request + _field(_KEY, one) + parent + _labels())
        return b"no" if made is None else b"ok " + _directory(made)
    done = containerd.call(b"Commit", request + _field(_NAME, one) + _field(_COMMITTED, two) + _labels())
    return b"no" if done is None else b"ok"


def main() -> None:
    """Answers line by line."""
    containerd = Containerd(sys.argv[1])
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(_answer(containerd, line) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
