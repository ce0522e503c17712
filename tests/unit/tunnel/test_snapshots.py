"""The program that a cell runs for its snapshots, against a server that says frame by frame what it is told to."""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kip.tunnel import volume

DATA, HEADERS, RESET, SETTINGS, PING, GO_AWAY = 0, 1, 3, 4, 6, 7
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: PrepareSnapshotResponse with one Mount: type 1, source 2, options 4.
BIND = b"\x0a\x11\x0a\x04bind\x12\x05/s/fs\x22\x02ro"
OVERLAY = b"\x0a\x1f\x0a\x07overlay\x22\x0eupperdir=/s/fs\x22\x04null"


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def message(content: bytes, stream: int) -> bytes:
    """A good answer, as grpc-go sends it: headers, the message, trailers."""
    body = b"\0" + len(content).to_bytes(4, "big") + content
    return (
        frame(HEADERS, b"\x88", flags=4, stream=stream)
        + frame(DATA, body[:3], stream=stream)
        + frame(DATA, body[3:], stream=stream)
        + frame(HEADERS, b"\x88", flags=5, stream=stream)
    )


def refusal(stream: int) -> bytes:
    return frame(HEADERS, b"\x88", flags=5, stream=stream)


@dataclass
class Server:
    """Answers the streams in their order; what it got is kept."""

    path: Path
    answers: list[Callable[[int], bytes]] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    acknowledged: set[int] = field(default_factory=set)
    first: bytes = frame(SETTINGS, b"\0\x03\0\0\0\x64")

    def serve(self, listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, connection.makefile("rb") as read:
            assert read.read(len(PREFACE)) == PREFACE
            connection.sendall(self.first)
            while head := read.read(9):
                payload, kind = read.read(int.from_bytes(head[:3], "big")), head[3]
                if kind in (SETTINGS, PING) and head[4] & 1:
                    self.acknowledged.add(kind)
                if kind == HEADERS:
                    self.requests.append(payload)
                if kind == DATA:
                    assert payload[:5] == b"\0" + (len(payload) - 5).to_bytes(4, "big")
                    self.requests[-1] += payload[5:]
                    answer = self.answers.pop(0)(int.from_bytes(head[5:], "big"))
                    connection.sendall(answer)

    def ask(self, *lines: str) -> list[str]:
        """What the program answers to these lines."""
        program = shlex.split(volume.command("seed"))[-1]
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", program, str(self.path)],
            input="".join(f"{line}\n" for line in lines),
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        return done.stdout.splitlines()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(made.path))
        listening.listen()
        thread = threading.Thread(target=made.serve, args=(listening,), daemon=True)
        thread.start()
        yield made
        thread.join(5)


def test_a_snapshot_is_prepared_and_committed(server: Server) -> None:
    server.answers = [lambda s: message(BIND, s), lambda s: message(b"", s), lambda s: message(OVERLAY, s)]
    asked = server.ask("prepare key-1 -", "commit sha256:a key-1", "prepare key-2 sha256:a")
    assert asked == ["ok /s/fs", "ok", "ok /s/fs"]
    first, second, third = server.requests
    assert b":path3/containerd.services.snapshots.v1.Snapshots/Prepare" in first
    assert b"containerd-namespace\x06k8s.io" in first
    assert b"\x0a\x09overlayfs\x12\x05key-1\x22" in first, "snapshotter, key, no parent, labels"
    assert b"containerd.io/gc.root" in first
    assert b"Snapshots/Commit" in second
    assert b"\x12\x08sha256:a\x1a\x05key-1\x22" in second, "name, key, labels"
    assert b"\x12\x05key-2\x1a\x08sha256:a\x22" in third, "key, parent, labels"


def test_an_error_is_a_no_and_the_next_call_is_another(server: Server) -> None:
    server.answers = [refusal, lambda s: message(BIND, s)]
    assert server.ask("prepare key-1 sha256:none", "prepare key-1 -") == ["no", "ok /s/fs"]


def test_what_the_server_wants_to_know_meanwhile_is_answered(server: Server) -> None:
    server.answers = [
        lambda s: frame(PING, b"12345678") + frame(8, b"\0\0\0\x01") + message(BIND, s),
        lambda s: message(b"", s),
    ]
    assert server.ask("prepare key-1 -", "commit a key-1") == ["ok /s/fs", "ok"]
    assert server.acknowledged == {SETTINGS, PING}


def test_long_answers_are_read_whole(server: Server) -> None:
    """An overlay of a hundred layers names them all."""
    option = b"lowerdir=" + b"/s/fs:" * 100
    size = len(option)
    mount = b"\x22" + bytes((size & 127 | 128, size >> 7)) + option + b"\x22\x0eupperdir=/s/fs"
    answer = b"\x0a" + bytes((len(mount) & 127 | 128, len(mount) >> 7)) + mount
    server.answers = [lambda s: message(answer, s)]
    assert server.ask("prepare key-1 sha256:a") == ["ok /s/fs"]


@pytest.mark.parametrize("kind", [RESET, GO_AWAY])
def test_it_ends_with_the_connection_and_says_nothing_more(server: Server, kind: int) -> None:
    server.answers = [lambda s: frame(kind, b"\0" * 8, stream=s if kind == RESET else 0)]
    assert server.ask("prepare key-1 -", "commit a key-1") == []


def test_nobody_there(tmp_path: Path) -> None:
    assert Server(tmp_path / "none").ask("prepare key-1 -") == []
