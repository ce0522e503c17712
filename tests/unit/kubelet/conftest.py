"""Fakes for the kubelet API's tests: an API server, a clock, cells' kubelets on unix sockets, a caller with TLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop

from kip.kubelet import pki
from kip.kubelet.directory import Endpoint

_LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
_ON_BOTH = ("test_tls.py", "test_stream.py", "test_server.py")


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Any]:
    """What moves bytes is tested on asyncio's own loop and on uvloop, which the operator uses."""
    return _LOOPS if item.path.name in _ON_BOTH else {"asyncio": asyncio.new_event_loop}


class FakeClock:
    """Time that passes when somebody sleeps, or by `advance`."""

    def __init__(self) -> None:
        self._start = datetime.now(UTC).replace(microsecond=0)
        self.seconds = 0.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@dataclass
class Call:
    method: str
    path: str
    params: dict[str, str]
    body: Any
    impersonate: Any


@dataclass
class FakeReply:
    status: int
    body: bytes = b""


class FakeApi:
    """Answers by (method, path) what a test has put there; remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.routes: dict[tuple[str, str], Callable[[Call], Any]] = {}
        self.down: Exception | None = None

    def on(self, method: str, path: str, answer: Any, status: int = 200) -> None:
        """`answer` is JSON, or a function of the call that returns JSON, FakeReply, or raises."""
        self.routes[method, path] = (
            answer if callable(answer) else lambda _call: FakeReply(status, json.dumps(answer).encode())
        )

    @staticmethod
    def refusal(status: int, reason: str) -> FakeReply:
        return FakeReply(status, json.dumps({"message": reason, "reason": reason}).encode())

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str | None = None,
        accept: str = "application/json",
        impersonate: Any = None,
        timeout_s: float = 30,
    ) -> FakeReply:
        call = Call(method, path, dict(params or {}), json.loads(body) if body else None, impersonate)
        self.calls.append(call)
        if self.down is not None:
            raise self.down
        handler = self.routes.get((method, path))
        if handler is None:
            return FakeReply(
                404, json.dumps({"message": f"{method} {path} not found", "reason": "NotFound"}).encode()
            )
        answer = handler(call)
        return answer if isinstance(answer, FakeReply) else FakeReply(200, json.dumps(answer).encode())


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def authority(clock: FakeClock) -> pki.KeyPair:
    return pki.new_authority(clock)


@pytest.fixture
def cell_tls(authority: pki.KeyPair, clock: FakeClock) -> pki.CellClient:
    return pki.CellClient(authority, clock)


Script = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class FakeKubelet:
    """A cell's kubelet whose answers are a script: it gets the request's head and does what it likes."""

    socket: Path
    script: Script
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            await self.script(head, reader, writer)
        with contextlib.suppress(OSError, RuntimeError):
            writer.close()
        self.ended.set()


class Cells:
    """The directory of the fakes, and their factory."""

    def __init__(self, folder: Path, authority: pki.KeyPair, clock: FakeClock) -> None:
        self._folder = folder
        # asyncio's own TLS on this side, so that ours has a foreign peer; the kubelet demands a client certificate.
        self._context = pki.server_context(
            pki.self_signed("cell", ["127.0.0.1"], clock), authority.certificate
        )
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._servers: list[asyncio.Server] = []
        self.endpoints: dict[tuple[str, str], Endpoint] = {}
        self.silent: dict[tuple[str, str], str] = {}

    async def add(self, namespace: str, pod: str, script: Script, *, uid: str = "") -> FakeKubelet:
        kubelet = FakeKubelet(self._folder / f"{len(self._servers)}.sock", script)
        self._servers.append(
            await asyncio.start_unix_server(kubelet.serve, str(kubelet.socket), ssl=self._context)
        )
        self.put(namespace, pod, kubelet.socket, uid=uid)
        return kubelet

    def put(self, namespace: str, pod: str, socket: Path | None, *, uid: str = "") -> Endpoint:
        endpoint = Endpoint(f"cell-{pod}", namespace, pod, uid or f"uid-{pod}", socket, "10.0.0.7")
        self.endpoints[namespace, pod] = endpoint
        return endpoint

    def find(self, namespace: str, pod: str, uid: str | None = None) -> Endpoint | None:
        endpoint = self.endpoints.get((namespace, pod))
        return None if endpoint is None or uid not in (None, endpoint.pod_uid) else endpoint

    def why_silent(self, namespace: str, pod: str, uid: str | None = None) -> str | None:
        return self.silent.get((namespace, pod))

    def all(self) -> list[Endpoint]:
        return list(self.endpoints.values())

    def close(self) -> None:
        for server in self._servers:
            server.close()


@pytest.fixture
async def cells(tmp_path: Path, authority: pki.KeyPair, clock: FakeClock) -> AsyncIterator[Cells]:
    made = Cells(tmp_path, authority, clock)
    yield made
    made.close()


def http_answer(body: bytes, status: str = "200 OK", *fields: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@pytest.fixture
def answering() -> Callable[..., Script]:
    """A script that answers every request with one body and closes."""

    def script_for(body: bytes, status: str = "200 OK") -> Script:
        async def script(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(http_answer(body, status))
            await writer.drain()

        return script

    return script_for
