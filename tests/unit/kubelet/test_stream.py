from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kip.kubelet import pki, stream
from kip.kubelet.cell import dial
from kip.kubelet.directory import Endpoint
from kip.kubelet.http1 import Request, parse_request
from kip.kubelet.tls import TlsStream


def request_of(
    *fields: tuple[str, str], method: str = "GET", target: str = "/containerLogs/ns/a/c"
) -> Request:
    return Request(method=method, target=target, fields=fields)


class Caller:
    """The caller's side of a connection whose other side the proxy holds: bytes in, bytes out, ends both ways."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self.got = bytearray()
        self.changed = asyncio.Event()
        self._back = b""

    async def read(self) -> bytes:
        if self._back:
            data, self._back = self._back, b""
            return data
        item = await self.incoming.get()
        if isinstance(item, Exception):
            raise item
        if not item:
            self.incoming.put_nowait(item)  # an end stays an end
        return item

    def unread(self, data: bytes) -> None:
        self._back = data + self._back

    async def write(self, data: bytes) -> None:
        self.got += data
        self.changed.set()

    async def saw(self, text: bytes) -> None:
        """Wait until the caller has got this."""
        async with asyncio.timeout(5):
            while text not in self.got:
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
def caller() -> Caller:
    return Caller()


@pytest.fixture
async def connected(cells: Any, cell_tls: Any) -> AsyncIterator[Any]:
    """Dial a cell whose kubelet follows a script; returns the connection and the kubelet."""
    opened: list[TlsStream] = []

    async def connect(script: Any) -> tuple[TlsStream, Any]:
        kubelet = await cells.add("ns", "a", script)
        opened.append(await dial(cells.find("ns", "a"), cell_tls))
        return opened[-1], kubelet

    yield connect
    for one in opened:
        one.abort()


def test_a_plain_request_gets_one_connection_and_loses_its_credentials() -> None:
    request = request_of(
        ("Host", "10.0.0.1:10250"),
        ("Authorization", "Bearer secret"),
        ("Cookie", "secret"),
        ("Connection", "keep-alive, Upgrade"),
        ("Upgrade", "h2c"),
        ("X-Stream-Protocol-Version", "v4"),
        ("X-Stream-Protocol-Version", "v5"),
    )
    forwarded = stream.forwarded(request, upgrade=False)
    assert forwarded.fields == (
        ("Host", "10.0.0.1:10250"),
        ("X-Stream-Protocol-Version", "v4"),
        ("X-Stream-Protocol-Version", "v5"),
        ("Connection", "close"),
    )
    assert forwarded.target == request.target


def test_an_upgrade_keeps_all_but_the_credentials() -> None:
    token = "base64url.bearer.authorization.k8s.io.c2VjcmV0"
    request = request_of(
        ("Connection", "Upgrade"),
        ("authorization", "Bearer secret"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Protocol", f"v5.channel.k8s.io, {token}, v4.channel.k8s.io"),
        ("sec-websocket-protocol", token),
    )
    assert stream.wants_upgrade(request)
    assert stream.forwarded(request, upgrade=True).fields == (
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Protocol", "v5.channel.k8s.io, v4.channel.k8s.io"),
    )


@pytest.mark.parametrize("fields", [(), (("Upgrade", "SPDY/3.1"),), (("Connection", "upgrade"),)])
def test_half_an_upgrade_is_none(fields: Any) -> None:
    assert not stream.wants_upgrade(request_of(*fields))


async def test_a_caller_who_half_closes_still_gets_the_answer(
    caller: Caller, tmp_path: Path, clock: Any
) -> None:
    """The cell learns of the end, and its answer may come as late as it likes."""
    context = pki.server_context(pki.self_signed("cell", ["127.0.0.1"], clock), None)

    async def answer_after_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cell = TlsStream(reader, writer, context, server_side=True)
        await cell.handshake()
        got = bytearray()
        while data := await cell.read():
            got += data
        await cell.write(b"HTTP/1.1 200 OK\r\n\r\n" + got[-4:])
        await cell.close()

    server = await asyncio.start_unix_server(answer_after_the_end, str(tmp_path / "cell.sock"))
    endpoint = Endpoint("cell-a", "ns", "a", "uid-a", tmp_path / "cell.sock", "10.0.0.7")
    cell = await dial(endpoint, pki.CellClient(pki.new_authority(clock), clock))
    caller.incoming.put_nowait(b"body")
    caller.incoming.put_nowait(b"")
    request = request_of(("Content-Length", "4"), method="POST", target="/run/ns/a/c")
    assert await asyncio.wait_for(stream.exchange(caller, cell, request), 5) == 200
    assert bytes(caller.got) == b"HTTP/1.1 200 OK\r\n\r\nbody"
    cell.abort()
    server.close()


@pytest.mark.parametrize(
    ("field", "body"),
    [(("Content-Length", "5"), b"hello"), (("Transfer-Encoding", "chunked"), b"5\r\nhello\r\n0\r\n\r\n")],
)
async def test_nothing_behind_the_request_reaches_its_cell(
    caller: Caller, connected: Any, field: tuple[str, str], body: bytes
) -> None:
    seen = bytearray()
    complete = asyncio.Event()

    async def listen(_head: bytes, reader: Any, writer: Any) -> None:
        seen.extend(await reader.readexactly(len(body)))
        with contextlib.suppress(TimeoutError):
            seen.extend(await asyncio.wait_for(reader.read(1000), 0.2))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        complete.set()

    cell, _ = await connected(listen)
    caller.incoming.put_nowait(
        body + b"GET /containerLogs/ns/b/c HTTP/1.1\r\nAuthorization: Bearer x\r\n\r\n"
    )
    await stream.exchange(caller, cell, request_of(field, method="POST", target="/run/ns/a/c"))
    await asyncio.wait_for(complete.wait(), 5)
    assert bytes(seen) == body


async def test_a_caller_who_vanishes_ends_the_cells_stream(caller: Caller, connected: Any) -> None:
    async def follow(_head: bytes, reader: Any, writer: Any) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nline\n")
        await writer.drain()
        await reader.read()

    cell, kubelet = await connected(follow)
    task = asyncio.create_task(stream.exchange(caller, cell, request_of()))
    await caller.saw(b"line")
    caller.incoming.put_nowait(b"")
    assert await asyncio.wait_for(task, 5) == 200
    await asyncio.wait_for(kubelet.ended.wait(), 5)


async def test_a_cell_that_ignores_the_hangup_is_left(
    caller: Caller, connected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_AFTER_HANGUP_S", 0.2)

    async def deaf(_head: bytes, _reader: Any, writer: Any) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.sleep(60)

    cell, _ = await connected(deaf)
    # The peer's TLS would close by itself on our half-close; this one is a cell whose machine hangs.
    monkeypatch.setattr(cell, "write_eof", lambda: asyncio.sleep(0))
    caller.incoming.put_nowait(b"")
    with pytest.raises(ConnectionResetError, match="silent"):
        await asyncio.wait_for(stream.exchange(caller, cell, request_of()), 5)


@pytest.mark.parametrize("upgrading", [True, False])
async def test_a_cell_that_dies_before_its_answer(caller: Caller, connected: Any, upgrading: bool) -> None:
    async def die(_head: bytes, _reader: Any, writer: Any) -> None:
        writer.transport.abort()

    cell, _ = await connected(die)
    work = stream.upgrade if upgrading else stream.exchange
    with pytest.raises(stream.NoAnswer):
        await asyncio.wait_for(work(caller, cell, request_of()), 5)
    assert not caller.got


async def test_a_cell_that_speaks_something_else(caller: Caller, connected: Any) -> None:
    async def babble(_head: bytes, _reader: Any, writer: Any) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")

    cell, _ = await connected(babble)
    with pytest.raises(stream.NoAnswer):
        await stream.upgrade(caller, cell, request_of())


UPGRADE = (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"))


async def test_an_upgraded_connection_is_raw(caller: Caller, connected: Any) -> None:
    async def echo(_head: bytes, reader: Any, writer: Any) -> None:
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade\r\n\r\nhello "
        )
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    cell, _ = await connected(echo)
    task = asyncio.create_task(stream.upgrade(caller, cell, request_of(*UPGRADE, method="POST")))
    caller.incoming.put_nowait(b"early bird; ")
    await caller.saw(b"hello early bird; ")
    caller.incoming.put_nowait(b"\x80\x03\x00\x01GET / HTTP/1.1\r\n\r\n")
    await caller.saw(b"\x80\x03\x00\x01GET / HTTP/1.1\r\n\r\n")
    caller.incoming.put_nowait(b"")
    assert await asyncio.wait_for(task, 5) == 101


async def test_after_a_refused_upgrade_nothing_passes(caller: Caller, connected: Any) -> None:
    """A kubelet keeps such a connection open for the next request: nobody has authorised that one."""
    second: list[bytes] = []

    async def refuse(_head: bytes, reader: Any, writer: Any) -> None:
        writer.write(
            b"HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n"
        )
        writer.write(b"2\r\nno\r\n0\r\n\r\n")
        await writer.drain()
        second.append(await reader.read())

    cell, kubelet = await connected(refuse)
    caller.incoming.put_nowait(b"POST /exec/ns/a/c?command=id HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await stream.upgrade(caller, cell, request_of(*UPGRADE)) == 400
    head, _, body = bytes(caller.got).partition(b"\r\n\r\n")
    assert body == b"no"
    assert b"Connection: close" in head
    cell.abort()
    await asyncio.wait_for(kubelet.ended.wait(), 5)
    assert second in ([], [b""])


async def test_a_caller_who_leaves_before_the_upgrade(caller: Caller, connected: Any) -> None:
    async def think(_head: bytes, reader: Any, _writer: Any) -> None:
        await reader.read()

    cell, _ = await connected(think)
    caller.incoming.put_nowait(b"")
    with pytest.raises(ConnectionResetError, match="left"):
        await asyncio.wait_for(stream.upgrade(caller, cell, request_of(*UPGRADE)), 5)


def test_what_is_forwarded_can_be_read_again() -> None:
    raw = b"GET /exec/ns/a/c?command=a%20b&command=%C3%A4 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: y\r\n\r\n"
    assert stream.forwarded(parse_request(raw), upgrade=True).encode() == raw
