from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from kip.kubelet import pki, server
from kip.kubelet.auth import Authenticator, Authorizer
from kip.kubelet.clientca import ClientCa
from kip.kubelet.http1 import Answer, HttpError
from kip.kubelet.server import KubeletServer

CONFIG_MAP = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
TOKENS = "/apis/authentication.k8s.io/v1/tokenreviews"
ACCESS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
BIG = bytes(range(256)) * 4096 * 8  # 8 MiB


@dataclass
class Serving:
    """A serving certificate that a test can exchange."""

    pair: pki.KeyPair

    def context(self, client_ca: bytes | None) -> ssl.SSLContext:
        return pki.server_context(self.pair, client_ca)


class FakeLogStore:
    def __init__(self) -> None:
        self.kept: dict[tuple[str, str | None], bytes] = {}

    async def serve(self, pod: Any, query: Any, uid: str | None) -> Answer | None:
        text = self.kept.get((pod.pod, uid))
        return None if text is None else Answer(200, text)


class FakeSystemLogs:
    def __init__(self) -> None:
        self.commands: list[tuple[str, str]] = []
        self.answer: bytes | HttpError = b"kubelet[1]: started\n"

    async def run(self, cell: str, command: str, *, most_bytes: int, timeout_s: float) -> bytes:
        self.commands.append((cell, command))
        if isinstance(self.answer, HttpError):
            raise self.answer
        return self.answer


@dataclass
class Counted:
    answers: list[tuple[str, int]] = field(default_factory=list)
    missing: list[tuple[str, int]] = field(default_factory=list)

    def answered(self, what: str, status: int, seconds: float) -> None:
        self.answers.append((what, status))

    def not_scraped(self, what: str, cells: int) -> None:
        self.missing.append((what, cells))


@dataclass
class World:
    server: KubeletServer
    serving: Serving
    store: FakeLogStore
    system: FakeSystemLogs
    counted: Counted
    client: ssl.SSLContext
    nobody: ssl.SSLContext

    async def connect(
        self, context: ssl.SSLContext | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.server.port, ssl=context or self.client)

    async def ask(self, request: str, context: ssl.SSLContext | None = None) -> tuple[int, bytes]:
        """Send a head, read until the connection ends; returns status and what follows the answer's head."""
        reader, writer = await self.connect(context)
        writer.write(request.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    async def get(self, path: str, *fields: str, context: ssl.SSLContext | None = None) -> tuple[int, bytes]:
        return await self.ask("\n".join([f"GET {path} HTTP/1.1", "Host: node", *fields]), context)


def trusting(context: ssl.SSLContext) -> ssl.SSLContext:
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.fixture
async def world(
    api: Any, clock: Any, cells: Any, cell_tls: Any, authority: pki.KeyPair
) -> AsyncIterator[World]:
    api.on("GET", CONFIG_MAP, {"data": {"client-ca-file": authority.certificate.decode()}})
    api.on("POST", ACCESS, {"status": {"allowed": True}}, 201)
    serving = Serving(pki.self_signed("kip-0", ["127.0.0.1"], clock))
    store, system, counted = FakeLogStore(), FakeSystemLogs(), Counted()
    running = KubeletServer(
        host="127.0.0.1",
        port=0,
        tls=serving,
        client_ca=ClientCa(api, clock_that_waits(clock)),
        authenticator=Authenticator(api, clock),
        authorizer=Authorizer(api, "kip-0", clock),
        directory=cells,
        cell_tls=cell_tls,
        kept_logs=store,
        system_logs=system,
        node_name="kip-0",
        clock=clock,
        metrics=counted,
    )
    await running.start()
    yield World(
        running,
        serving,
        store,
        system,
        counted,
        pki.client_context(pki.issue_client(authority, clock)),
        trusting(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)),
    )
    await running.close()


def clock_that_waits(clock: Any) -> Any:
    """The fake clock's sleep returns at once, which a loop without an end must not get."""

    class Waiting(type(clock)):  # type: ignore[misc]
        async def sleep(self, seconds: float) -> None:
            await asyncio.Event().wait()

    return Waiting()


async def test_each_pods_request_goes_to_its_own_cell(world: World, cells: Any, answering: Any) -> None:
    a = await cells.add("ns", "a", answering(b"log of a"))
    b = await cells.add("ns", "b", answering(b"log of b"))
    assert await world.get("/containerLogs/ns/a/app?tailLines=5&follow=true", "Authorization: Bearer x") == (
        200,
        b"log of a",
    )
    assert await world.get("/containerLogs/ns/b/app") == (200, b"log of b")
    assert a.heads == [
        b"GET /containerLogs/ns/a/app?tailLines=5&follow=true HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"
    ]
    assert len(b.heads) == 1
    assert world.counted.answers == [("containerLogs", 200)] * 2


async def test_a_reused_connection_never_reaches_another_pods_cell(world: World, cells: Any) -> None:
    """A caller that pipelines, and a cell that would keep its connection open for more."""

    async def keep_open(_head: bytes, reader: Any, writer: Any) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\na")
        await writer.drain()
        with contextlib.suppress(TimeoutError):
            more.append(await asyncio.wait_for(reader.read(1000), 0.3))

    more: list[bytes] = []
    await cells.add("ns", "a", keep_open)
    b = await cells.add("ns", "b", keep_open)
    reader, writer = await world.connect()
    writer.write(b"GET /containerLogs/ns/a/app HTTP/1.1\r\nHost: node\r\n\r\n")
    writer.write(b"GET /containerLogs/ns/b/app HTTP/1.1\r\nHost: node\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert answer.count(b"HTTP/1.1") == 1
    assert b.connections == 0
    assert more in ([], [b""])


async def test_a_pod_of_another_node(world: World) -> None:
    status, body = await world.get("/containerLogs/ns/stranger/app")
    assert (status, body) == (404, b'pod "stranger" does not exist on node kip-0\n')


async def test_a_pod_of_the_same_name_and_another_uid(world: World, cells: Any, answering: Any) -> None:
    await cells.add("ns", "a", answering(b"ok"), uid="new")
    assert (await world.ask("POST /run/ns/a/new/app HTTP/1.1\nHost: x"))[0] == 200
    assert (await world.ask("POST /run/ns/a/old/app HTTP/1.1\nHost: x"))[0] == 404


async def test_a_cell_not_connected(world: World, cells: Any) -> None:
    cells.put("ns", "a", None)
    status, body = await world.get("/containerLogs/ns/a/app")
    assert (status, body) == (502, b"cell cell-a of pod ns/a is not connected\n")


@pytest.mark.parametrize("cell", ["none", "not connected"])
async def test_a_pod_whose_machine_is_on_its_way_waits_in_a_kubelets_words(
    world: World, cells: Any, cell: str
) -> None:
    if cell == "not connected":
        cells.put("ns", "a", None)
    cells.silent["ns", "a"] = "is waiting to start: ContainerCreating"
    status, body = await world.get("/containerLogs/ns/a/app")
    assert status == 400
    assert body == b'container "app" in pod "a" is waiting to start: ContainerCreating\n'
    status, body = await world.ask("POST /portForward/ns/a HTTP/1.1\nHost: x")
    assert (status, body) == (400, b'pod "a" is waiting to start: ContainerCreating\n')


async def test_kept_logs_answer_for_a_pod_that_has_ended(world: World, cells: Any) -> None:
    cells.silent["ns", "a"] = "has ended, and its machine is gone"
    world.store.kept["a", None] = b"kept"
    assert await world.get("/containerLogs/ns/a/app") == (200, b"kept")
    assert (await world.ask("POST /run/ns/a/app HTTP/1.1\nHost: x"))[0] == 400


async def test_a_tunnel_that_is_gone(world: World, cells: Any, tmp_path: Any) -> None:
    cells.put("ns", "a", tmp_path / "nobody-listens")
    status, body = await world.ask(
        "POST /exec/ns/a/app?command=ls HTTP/1.1\nHost: x\nConnection: Upgrade\nUpgrade: SPDY/3.1"
    )
    assert status == 502
    assert b"cell-a" in body
    assert b"cannot be reached" in body


async def test_a_cell_that_dies_before_it_answers(world: World, cells: Any) -> None:
    async def die(_head: bytes, _reader: Any, writer: Any) -> None:
        writer.transport.abort()

    await cells.add("ns", "a", die)
    status, body = await world.get("/containerLogs/ns/a/app")
    assert status == 502
    assert b"cell-a" in body


async def test_a_cell_that_dies_in_its_answer_is_not_a_good_end(world: World, cells: Any) -> None:
    async def die_later(_head: bytes, _reader: Any, writer: Any) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.transport.abort()

    await cells.add("ns", "a", die_later)
    try:
        status, body = await world.get("/containerLogs/ns/a/app")
    except OSError:
        return
    assert (status, body) == (200, b"half")


@pytest.mark.parametrize("gone", ["no cell", "not connected", "dies"])
async def test_kept_logs_answer_when_the_cell_does_not(world: World, cells: Any, gone: str) -> None:
    async def die(_head: bytes, _reader: Any, writer: Any) -> None:
        writer.transport.abort()

    if gone == "not connected":
        cells.put("ns", "a", None)
    elif gone == "dies":
        await cells.add("ns", "a", die)
    world.store.kept["a", None if gone == "no cell" else "uid-a"] = b"kept"
    assert await world.get("/containerLogs/ns/a/app") == (200, b"kept")
    assert (await world.ask("POST /run/ns/a/app HTTP/1.1\nHost: x"))[0] in (404, 502)


async def test_logs_of_an_earlier_pod_of_that_name_are_not_this_ones(world: World, cells: Any) -> None:
    cells.put("ns", "a", None, uid="new")
    world.store.kept["a", "old"] = b"of the old one"
    assert (await world.get("/containerLogs/ns/a/app"))[0] == 502


async def test_nobody_gets_in_without_a_certificate_or_token(
    world: World, cells: Any, answering: Any, api: Any
) -> None:
    kubelet = await cells.add("ns", "a", answering(b"secret"))
    assert (await world.get("/containerLogs/ns/a/app", context=world.nobody))[0] == 401
    assert (await world.get("/healthz", context=world.nobody))[0] == 401
    api.on("POST", TOKENS, {"status": {"authenticated": True, "user": {"username": "prometheus"}}}, 201)
    status, _ = await world.get("/containerLogs/ns/a/app", "Authorization: Bearer t", context=world.nobody)
    assert status == 200
    assert b"Bearer" not in kubelet.heads[0]


async def test_a_certificate_of_another_authority_is_refused(world: World, clock: Any) -> None:
    stranger = pki.client_context(pki.issue_client(pki.new_authority(clock), clock))
    with pytest.raises((OSError, IndexError)):
        await world.get("/healthz", context=stranger)
    assert world.counted.answers == []


async def test_who_may_not_is_told_so_before_anything_is_looked_up(world: World, api: Any) -> None:
    api.on("POST", ACCESS, {"status": {"allowed": False}}, 201)
    status, body = await world.get("/exec/ns/no-such-pod/app")
    assert status == 403
    assert b"verb=create" in body


async def test_a_stream_of_megabytes_both_ways(world: World, cells: Any) -> None:
    async def echo(_head: bytes, reader: Any, writer: Any) -> None:
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade\r\n\r\n")
        got = await reader.readexactly(len(BIG))
        writer.write(got[::-1])
        await writer.drain()

    await cells.add("ns", "a", echo)
    reader, writer = await world.connect()
    writer.write(
        b"POST /exec/ns/a/app?command=cat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        b"X-Stream-Protocol-Version: v5.channel.k8s.io\r\nContent-Length: 0\r\n\r\n"
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    writer.write(BIG)
    assert await asyncio.wait_for(reader.read(), 30) == BIG[::-1]
    writer.close()


async def test_a_slow_caller_slows_the_cell_down_and_loses_nothing(world: World, cells: Any) -> None:
    poured = 0

    async def pour(_head: bytes, _reader: Any, writer: Any) -> None:
        nonlocal poured
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(8):
            for part in range(0, len(BIG), 65536):
                writer.write(BIG[part : part + 65536])
                await writer.drain()
                poured += 65536

    await cells.add("ns", "a", pour)
    reader, writer = await world.connect()
    writer.write(b"GET /containerLogs/ns/a/app HTTP/1.1\r\nHost: x\r\n\r\n")
    before = -1
    while poured != before:
        before = poured
        await asyncio.sleep(0.2)
    assert poured < 40 << 20  # of 64 MiB: what sockets hold, and a little of ours
    answer = await asyncio.wait_for(reader.read(), 60)
    assert answer.partition(b"\r\n\r\n")[2] == BIG * 8
    writer.close()


async def followed(world: World, cells: Any) -> tuple[Any, asyncio.StreamReader, asyncio.StreamWriter]:
    """A cell's kubelet, and the connection over which a container's log of it is read as it grows."""

    async def follow(_head: bytes, reader: Any, writer: Any) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nline\n")
        await writer.drain()
        await reader.read()

    kubelet = await cells.add("ns", "a", follow)
    reader, writer = await world.connect()
    writer.write(b"GET /containerLogs/ns/a/app?follow=true HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"line\n")
    return kubelet, reader, writer


async def test_a_caller_who_hangs_up_ends_the_cells_stream(world: World, cells: Any) -> None:
    kubelet, _reader, writer = await followed(world, cells)
    writer.close()
    await asyncio.wait_for(kubelet.ended.wait(), 10)


async def test_closing_the_server_cuts_every_stream(world: World, cells: Any) -> None:
    kubelet, reader, _writer = await followed(world, cells)
    await asyncio.wait_for(world.server.close(), 5)
    await asyncio.wait_for(kubelet.ended.wait(), 10)
    with contextlib.suppress(OSError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    with pytest.raises(OSError):
        await world.connect()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nA : b\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * (2 << 20), 431),
        (b"GET / HT", 408),
    ],
)
async def test_bad_requests_are_answered(
    world: World, monkeypatch: pytest.MonkeyPatch, sent: bytes, status: int
) -> None:
    monkeypatch.setattr(server, "_HEAD_S", 0.5 if status == 408 else 10.0)
    reader, writer = await world.connect()
    writer.write(sent)
    answer = await asyncio.wait_for(reader.read(), 10)
    assert int(answer.split()[1]) == status
    writer.close()


async def test_who_says_nothing_is_told_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_IDLE_S", 0.2)
    reader, writer = await world.connect()
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    assert world.counted.answers == []


async def test_a_connection_without_tls_or_words_is_closed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_HANDSHAKE_S", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
    with contextlib.suppress(OSError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    assert (await world.get("/healthz"))[0] == 200


async def test_a_new_certificate_serves_the_next_connection(world: World, clock: Any) -> None:
    async def shown() -> bytes | None:
        _, writer = await world.connect()
        certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return bytes(certificate)

    first = await shown()
    assert await shown() == first
    world.serving.pair = pki.self_signed("kip-0", ["127.0.0.1"], clock)
    assert await shown() != first


async def test_only_http_1_1_is_offered(world: World) -> None:
    world.client.set_alpn_protocols(["h2", "http/1.1"])
    _, writer = await world.connect()
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    writer.close()


async def test_the_node_as_a_whole(world: World, cells: Any, answering: Any) -> None:
    for pod in ("a", "b"):
        pods = {"items": [{"metadata": {"name": pod, "uid": f"uid-{pod}"}}, {"metadata": {"uid": "static"}}]}
        await cells.add("ns", pod, answering(json.dumps(pods).encode()))
    cells.put("ns", "c", None)
    assert await world.get("/healthz") == (200, b"ok")
    status, body = await world.get("/pods")
    assert status == 200
    assert sorted(pod["metadata"]["name"] for pod in json.loads(body)["items"]) == ["a", "b"]
    assert world.counted.answers == [("healthz", 200), ("pods", 200)]
    assert (await world.get("/metrics"))[0] == 404


async def test_a_surprise_ends_one_connection_only(world: World) -> None:
    async def surprise(*_args: Any) -> None:
        raise ZeroDivisionError

    world.store.serve = surprise  # type: ignore[method-assign,assignment]
    with contextlib.suppress(OSError, IndexError):
        await world.get("/containerLogs/ns/a/app")
    assert await world.get("/healthz") == (200, b"ok")


async def test_a_cells_own_logs(world: World) -> None:
    status, body = await world.get("/logs/cells/kip-1?query=kubelet&tailLines=7")
    assert (status, body) == (200, b"kubelet[1]: started\n")
    [(cell, command)] = world.system.commands
    assert cell == "kip-1"
    assert "-n 7 -u kubelet.service;" in command
    assert world.counted.answers == [("logs", 200)]


async def test_whoever_may_not_get_a_nodes_logs_gets_none_of_a_cell(world: World, api: Any) -> None:
    api.on("POST", ACCESS, {"status": {"allowed": False}}, 201)
    status, body = await world.get("/logs/cells/kip-1")
    assert status == 403
    assert b"verb=get, resource=nodes, subresource(s)=[log]" in body
    assert world.system.commands == []


async def test_bad_questions_about_a_cell_and_cells_that_do_not_answer(world: World) -> None:
    status, body = await world.get("/logs/cells/kip-1?query=sshd")
    assert (status, body) == (400, b"query: 'sshd', expected kubelet, containerd, cloud-init\n")
    assert world.system.commands == []
    world.system.answer = HttpError(502, "cell kip-1: no connection: no answer yet")
    assert await world.get("/logs/cells/kip-1") == (502, b"cell kip-1: no connection: no answer yet\n")
