from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from kip.kubelet import pki
from kip.kubelet.tls import TlsStream

BIG = bytes(range(256)) * 4096 * 8  # 8 MiB


@pytest.fixture
def server_context(clock: Any) -> ssl.SSLContext:
    return pki.server_context(pki.self_signed("node", ["127.0.0.1"], clock), None)


@pytest.fixture(params=["TLSv1_2", "TLSv1_3"])
def client_context(request: pytest.FixtureRequest) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = getattr(ssl.TLSVersion, request.param)
    return context


@pytest.fixture
async def serve(server_context: ssl.SSLContext) -> AsyncIterator[Callable[..., Any]]:
    """Start a server that hands each TlsStream to a script; returns its port."""
    servers: list[asyncio.Server] = []
    tasks: list[asyncio.Task[None]] = []

    async def start(script: Callable[[TlsStream], Any]) -> int:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            stream = TlsStream(reader, writer, server_context, server_side=True)
            try:
                await stream.handshake()
                await script(stream)
            finally:
                stream.abort()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.append(asyncio.create_task(run(reader, writer)))

        servers.append(await asyncio.start_server(accept, "127.0.0.1", 0))
        return int(servers[-1].sockets[0].getsockname()[1])

    yield start
    for server in servers:
        server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def connect(port: int, context: ssl.SSLContext) -> TlsStream:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    stream = TlsStream(reader, writer, context, server_side=False)
    await stream.handshake()
    return stream


async def read_all(stream: TlsStream) -> bytes:
    data = bytearray()
    while chunk := await stream.read():
        data += chunk
    return bytes(data)


async def test_what_comes_after_a_half_close_still_arrives(
    serve: Any, client_context: ssl.SSLContext
) -> None:
    async def answer_at_the_end(stream: TlsStream) -> None:
        asked = await read_all(stream)
        await stream.write(b"you said %d bytes;" % len(asked) + BIG)
        await stream.close()

    client = await connect(await serve(answer_at_the_end), client_context)
    await client.write(BIG)
    await client.write_eof()
    assert await read_all(client) == b"you said %d bytes;" % len(BIG) + BIG
    client.abort()


async def test_half_close_loses_nothing_that_was_under_way(
    serve: Any, client_context: ssl.SSLContext
) -> None:
    """Data that arrives at the very moment of the half-close: OpenSSL's second shutdown would throw it away."""

    async def both_at_once(stream: TlsStream) -> None:
        await stream.write(BIG)
        await stream.write_eof()
        await read_all(stream)

    client = await connect(await serve(both_at_once), client_context)
    await asyncio.sleep(0.05)  # the server's data waits in the socket
    got = bytearray(await client.read())
    await client.write_eof()
    got += await read_all(client)
    assert bytes(got) == BIG
    client.abort()


async def test_close_delivers_all_although_the_peer_keeps_sending(serve: Any) -> None:
    """A peer outside of asyncio that talks on while the last megabytes are on their way to it."""

    async def say_and_close(stream: TlsStream) -> None:
        await stream.read()
        await stream.write(BIG)
        await stream.close()

    port = await serve(say_and_close)
    assert await asyncio.to_thread(_chatty_slow_client, port) == BIG


def _chatty_slow_client(port: int) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    stop = threading.Event()
    with socket.create_connection(("127.0.0.1", port)) as raw, context.wrap_socket(raw) as tls:
        tls.sendall(b"hello")

        def chat() -> None:
            while not stop.wait(0.001):
                try:
                    tls.send(b"and another thing " * 50)
                except (OSError, ssl.SSLError):
                    return

        thread = threading.Thread(target=chat)
        thread.start()
        got = bytearray()
        try:
            while chunk := tls.recv(65536):
                got += chunk
        finally:
            stop.set()
            thread.join()
        return bytes(got)


async def test_write_waits_for_a_slow_reader(serve: Any, client_context: ssl.SSLContext) -> None:
    written = 0

    async def pour(stream: TlsStream) -> None:
        nonlocal written
        while True:
            await stream.write(b"x" * 65536)
            written += 65536

    client = await connect(await serve(pour), client_context)
    before = -1
    while written != before:  # nobody reads: the writer must come to rest
        before = written
        await asyncio.sleep(0.2)
    assert 0 < written < 64 << 20
    for _ in range(1000):
        await client.read()
        if written > before:
            break
    assert written > before
    client.abort()


async def test_a_peer_that_dies_is_an_end_to_reads_and_an_error_to_writes(
    serve: Any, client_context: ssl.SSLContext
) -> None:
    async def die(stream: TlsStream) -> None:
        await stream.read()
        stream.abort()

    client = await connect(await serve(die), client_context)
    await client.write(b"hello")
    try:
        assert await client.read() == b""
    except ConnectionResetError:
        pass
    with pytest.raises(OSError):
        await write_forever(client)


async def write_forever(stream: TlsStream) -> None:
    for _ in range(1000):
        await stream.write(b"x" * 65536)


async def test_unread_bytes_come_first(serve: Any, client_context: ssl.SSLContext) -> None:
    async def echo(stream: TlsStream) -> None:
        await stream.write(await stream.read())
        await stream.close()

    client = await connect(await serve(echo), client_context)
    await client.write(b"world")
    client.unread(b"hello ")
    assert await client.read() == b"hello "
    assert await read_all(client) == b"world"
    client.abort()


async def test_a_client_that_speaks_no_tls_is_an_error(serve: Any, server_context: ssl.SSLContext) -> None:
    seen: list[Exception] = []
    done = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = TlsStream(reader, writer, server_context, server_side=True)
        try:
            await stream.handshake()
        except OSError as error:
            seen.append(error)
        stream.abort()
        done.set()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await asyncio.wait_for(done.wait(), 5)
    assert isinstance(seen[0], ssl.SSLError)
    writer.close()
    server.close()


async def test_writing_after_the_end_is_refused(serve: Any, client_context: ssl.SSLContext) -> None:
    async def read_only(stream: TlsStream) -> None:
        await read_all(stream)

    client = await connect(await serve(read_only), client_context)
    await client.write_eof()
    await client.write_eof()
    with pytest.raises(ConnectionResetError):
        await client.write(b"late")
    client.abort()
