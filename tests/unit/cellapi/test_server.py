"""Who may speak, how much, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import stat
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from kip.cellapi.server import _CellServer

POD = "/api/v1/namespaces/shop/pods/web"
SECRET = "/api/v1/namespaces/shop/secrets/prices"
NODES = "/api/v1/nodes"
STRATEGIC = "application/strategic-merge-patch+json"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("token", [None, "", "wrong-token-of-nobody", "root-only-token-of-cell-b"])
async def test_without_the_token_nothing_is_answered(running: Any, world: Any, token: str | None) -> None:
    session, _ = running
    stranger = world.kubelet(session, token)
    for path in (NODES, SECRET, "/nonsense", "/api/v1/../x"):
        answer = await stranger.get(path)
        assert (answer.status, answer.reason) == (401, "Unauthorized")
    assert session.first_request_at is None
    assert world.upstream.asked == []


@pytest.mark.parametrize("limits", [{"penalty_s": 0.2}], indirect=True)
async def test_without_the_token_an_answer_takes_time_and_ends_the_connection(running: Any) -> None:
    _, kubelet = running
    request = f"GET {NODES} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer nobodys-token-at-all\r\n\r\n"
    began = asyncio.get_running_loop().time()
    answer = await kubelet.raw(request.encode() * 3)
    assert answer.count(b"HTTP/1.1 401") == answer.count(b"HTTP/1.1") == 1
    assert asyncio.get_running_loop().time() - began >= 0.2


@pytest.mark.parametrize("limits", [{"penalty_s": 0.5, "strangers": 3}], indirect=True)
async def test_only_so_many_strangers_wait_and_the_kubelet_is_answered_meanwhile(running: Any) -> None:
    session, kubelet = running
    request = f"GET {NODES} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    waiting = [asyncio.create_task(kubelet.raw(request)) for _ in range(3)]
    await until(lambda: session.strangers == 3)
    with contextlib.suppress(ConnectionError):
        assert await kubelet.raw(request) == b""
    assert (await kubelet.get(NODES)).status == 200
    assert session.strangers == 3
    assert all(answer.startswith(b"HTTP/1.1 401") for answer in await asyncio.gather(*waiting))
    assert session.strangers == 0


async def test_strangers_do_not_use_up_the_kubelets_rate(running: Any, world: Any, limits: Any) -> None:
    session, kubelet = running
    anybody = world.kubelet(session, None)
    seen = [(await anybody.get("/readyz")).status for _ in range(limits.anonymous_burst + 1)]
    assert seen == [200] * limits.anonymous_burst + [429]
    for _ in range(limits.request_burst):
        assert (await kubelet.get("/api/v1/nodes/kip-provider-0")).status == 200
    world.clock.seconds += 1
    assert (await anybody.get("/readyz")).status == 200


async def test_another_cells_token_does_not_work_on_this_socket(
    running: Any, world: Any, identity: Any
) -> None:
    session, _ = running
    other = replace(identity, cell_name="cell-b", cell_uid="0b0b", pod_name="db", pod_uid="uid-db")
    other_session, other_kubelet = await world.open(other, "root-only-token-of-cell-b")
    assert other_session.socket_path != session.socket_path
    assert (await other_kubelet.get(NODES)).status == 200
    assert (await world.kubelet(session, "root-only-token-of-cell-b").get(NODES)).status == 401
    assert (await world.kubelet(other_session).get(NODES)).status == 401


async def test_another_cells_socket_shows_another_pod(running: Any, world: Any, identity: Any) -> None:
    other = replace(identity, cell_name="cell-b", cell_uid="0b0b", pod_name="db", pod_uid="uid-db")
    _, other_kubelet = await world.open(other)
    world.upstream.objects[SECRET] = {"metadata": {"name": "prices"}}
    assert (await running[1].get(SECRET)).status == 200
    assert (await other_kubelet.get(SECRET)).status == 403


async def test_readyz_names_what_is_missing(world: Any, identity: Any) -> None:
    session, _ = await world.open(identity)
    anybody = world.kubelet(session, None)
    assert (await anybody.get("/readyz")).status == 200
    world.services.synced = False
    node, world.node = world.node, None
    answer = await anybody.get("/readyz")
    assert answer.status == 503
    assert answer.json["message"] == "not known yet: services, the virtual node"
    world.node, world.services.synced = node, True
    assert (await anybody.get("/readyz")).status == 200
    assert session.first_request_at is None


async def test_the_first_request_is_noted(world: Any, identity: Any) -> None:
    session, kubelet = await world.open(identity)
    with pytest.raises(TimeoutError):
        await session.wait_first_request(timeout_s=0.01)
    assert not session.kubelet_asked
    waiting = asyncio.create_task(session.wait_first_request(timeout_s=5))
    await kubelet.get(NODES)
    await waiting
    assert session.kubelet_asked
    first = session.first_request_at
    await kubelet.get(NODES)
    assert session.first_request_at == first is not None


async def test_the_socket_is_for_us_only(running: Any) -> None:
    path = running[0].socket_path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_socket_left_behind_is_replaced(world: Any, identity: Any, tmp_path: Any) -> None:
    left = tmp_path / "s" / f"{identity.cell_uid}.sock"
    left.parent.mkdir(mode=0o700)
    left.touch()
    _, kubelet = await world.open(identity)
    assert (await kubelet.get(NODES)).status == 200


async def test_mistakes_of_the_caller(world: Any, identity: Any) -> None:
    with pytest.raises(ValueError, match="token"):
        await world.api.open(identity, "short")
    with pytest.raises(ValueError, match="socket"):
        await world.api.open(replace(identity, cell_uid="x" * 100), "root-only-token-of-cell-a")
    await world.open(identity)
    with pytest.raises(RuntimeError, match="cell-a"):
        await world.open(identity)


async def test_closing_does_not_wait_for_watches(running: Any, world: Any, identity: Any) -> None:
    session, kubelet = running
    async with kubelet.watch(NODES) as watch:
        await watch.next()
        began = asyncio.get_running_loop().time()
        await session.close()
        assert asyncio.get_running_loop().time() - began < 1
        assert await watch.ended()
    assert session.watches == 0
    assert not session.socket_path.exists()
    assert world.api.session(identity.cell_uid) is None
    await session.close()
    with pytest.raises(aiohttp.ClientError):
        await kubelet.get(NODES)
    _, again = await world.open(identity)
    assert (await again.get(NODES)).status == 200


async def test_a_connection_that_is_being_accepted_is_closed_too(limits: Any) -> None:
    async def answer(_: Any) -> Any:
        raise AssertionError("nobody is to be answered any more")

    server = _CellServer(answer, limits)
    await server.abort()
    ours, theirs = socket.socketpair()
    await asyncio.get_running_loop().connect_accepted_socket(server, theirs)
    ours.setblocking(False)
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(ours, 1), 0.3) == b""
    ours.close()


async def test_a_watch_ends_with_its_connection(running: Any) -> None:
    session, kubelet = running
    async with kubelet.watch(NODES) as watch:
        await watch.next()
        assert session.watches == 1
    await kubelet.close()
    for _ in range(100):
        if session.watches == 0:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{session.watches} watches are open after their connection was closed")


async def test_a_cell_has_only_so_many_watches(running: Any, limits: Any) -> None:
    session, kubelet = running
    async with asyncio.TaskGroup() as group:
        opened = [kubelet.watch(NODES) for _ in range(limits.watches)]
        for watch in opened:
            group.create_task(watch.__aenter__())
    assert session.watches == limits.watches
    answer = await kubelet.get(NODES, watch="true")
    assert (answer.status, answer.reason) == (429, "TooManyRequests")
    for watch in opened:
        await watch.__aexit__(None, None, None)


async def test_a_cell_has_only_so_many_connections(running: Any, limits: Any) -> None:
    session, kubelet = running
    open_ones = [
        await asyncio.open_unix_connection(str(session.socket_path)) for _ in range(limits.connections)
    ]
    reader, writer = await asyncio.open_unix_connection(str(session.socket_path))
    try:
        assert await asyncio.wait_for(reader.read(), 5) == b""
    except ConnectionError:
        pass
    for _, one in [*open_ones, (reader, writer)]:
        one.close()
    for _ in range(100):
        try:
            assert (await kubelet.get(NODES)).status == 200
            return
        except aiohttp.ClientError:
            await asyncio.sleep(0.01)
    raise AssertionError("closed connections are still counted")


async def test_too_many_requests_are_slowed_down(running: Any, limits: Any, world: Any) -> None:
    _, kubelet = running
    for _ in range(limits.request_burst):
        assert (await kubelet.get(f"/api/v1/nodes/{world.node['metadata']['name']}")).status == 200
    answer = await kubelet.get(NODES)
    assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
    world.clock.seconds += 1
    assert (await kubelet.get(NODES)).status == 200


@pytest.mark.parametrize("declared", [True, False])
async def test_huge_bodies_are_refused(running: Any, world: Any, limits: Any, declared: bool) -> None:
    _, kubelet = running
    body = b'{"metadata":{"uid":"uid-web"},"status":{"message":"' + b"x" * limits.body_bytes + b'"}}'

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 4096):
            yield body[start : start + 4096]

    try:
        data = body if declared else chunks()
        answer = await kubelet.ask("PATCH", POD + "/status", data, content_type=STRATEGIC)
    except aiohttp.ClientConnectionError:
        pass  # The connection is closed with the answer, which a client that is still sending may not see.
    else:
        assert (answer.status, answer.reason) == (413, "RequestEntityTooLarge")
    assert [code for _, _, code in world.hooks.answers] == [413]
    assert world.upstream.asked == []
    assert (await kubelet.get(NODES)).status == 200


async def test_a_body_of_bombs_is_refused(running: Any, world: Any) -> None:
    _, kubelet = running
    head = f"PATCH {POD}/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer root-only-token-of-cell-a\r\n"
    head += f"Content-Type: {STRATEGIC}\r\nContent-Encoding: gzip\r\nContent-Length: 10\r\n\r\n0123456789"
    assert b" 415 " in (await kubelet.raw(head.encode())).split(b"\r\n")[0]


async def test_slow_bodies_are_refused(running: Any, world: Any) -> None:
    _, kubelet = running
    head = f"PATCH {POD}/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer root-only-token-of-cell-a\r\n"
    head += f"Content-Type: {STRATEGIC}\r\nContent-Length: 100\r\n\r\n"
    answer = await kubelet.raw(head.encode() + b'{"metadata":')
    assert b" 408 " in answer.split(b"\r\n")[0]
    assert world.upstream.asked == []
    assert (await kubelet.get(NODES)).status == 200


async def test_slow_bodies_do_not_take_all_places_for_ever(running: Any, limits: Any) -> None:
    _, kubelet = running
    head = f"PATCH {POD}/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer root-only-token-of-cell-a\r\n"
    head += f"Content-Type: {STRATEGIC}\r\nContent-Length: 100\r\n\r\n"
    slow = [asyncio.create_task(kubelet.raw(head.encode())) for _ in range(limits.bodies)]
    await asyncio.sleep(0)
    answer = await kubelet.patch(POD + "/status", {"metadata": {"uid": "uid-web"}, "status": {}})
    assert answer.status == 200
    await asyncio.gather(*slow)


async def send_status(kubelet: Any, size: int) -> Any:
    """A patch of the pod's status with a body of so many bytes."""
    head, tail = b'{"metadata":{"uid":"uid-web"},"status":{"message":"', b'"}}'
    body = head + b"x" * (size - len(head) - len(tail)) + tail
    return await kubelet.ask("PATCH", POD + "/status", body, content_type=STRATEGIC)


async def test_a_body_is_charged_by_its_size(running: Any, limits: Any, world: Any) -> None:
    _, kubelet = running
    size, sent = 60_000, 0
    while (await send_status(kubelet, size)).status == 200:
        sent += 1
    assert sent * size < limits.request_burst * limits.bytes_per_request + size
    world.clock.seconds += size / limits.bytes_per_request / limits.requests_per_s
    assert (await kubelet.get(NODES)).status == 200


@pytest.mark.parametrize("limits", [{"big_bodies": 1}], indirect=True)
async def test_big_bodies_of_all_cells_are_decoded_one_after_another(
    running: Any, limits: Any, world: Any, identity: Any, monkeypatch: Any
) -> None:
    _, kubelet = running
    other = replace(identity, cell_name="cell-b", cell_uid="0b0b")
    other_session, other_kubelet = await world.open(other)
    other_session.show_pod()
    asked, answer = world.upstream.request, asyncio.Event()
    begun = []

    async def slow(*args: Any, **more: Any) -> Any:
        begun.append(len(more["body"]))
        await answer.wait()
        return await asked(*args, **more)

    monkeypatch.setattr(world.upstream, "request", slow)

    first = asyncio.create_task(send_status(kubelet, 30_000))
    await until(lambda: begun)
    second = asyncio.create_task(send_status(other_kubelet, 30_001))
    await until(lambda: other_session.kubelet_asked)
    third = asyncio.create_task(send_status(other_kubelet, 1000))
    await until(lambda: len(begun) == 2)
    assert begun == [30_000, 1000], "the second big one did not wait"
    answer.set()
    assert [task.status for task in await asyncio.gather(first, second, third)] == [200] * 3
    assert begun == [30_000, 1000, 30_001]


@pytest.mark.parametrize("head", [b"", b"GET /api/v1/no", b"GET / HTTP/1.1\r\nHost: x\r\nX-A: "])
async def test_a_head_that_never_ends_is_cut_off(running: Any, head: bytes) -> None:
    _, kubelet = running
    assert await kubelet.raw(head) == b""


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 10_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: a\r\n" % n for n in range(100)) + b"\r\n",
        b"\x16\x03\x01\x02\x00",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_refused(running: Any, world: Any, request_bytes: bytes) -> None:
    _, kubelet = running
    answer = await kubelet.raw(request_bytes)
    assert answer == b"" or int(answer.split(b" ")[1]) in (400, 401)
    assert (await kubelet.get(NODES)).status == 200
    assert world.hooks.failures == []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b"[" * 30_000,
        b'{"status":' * 5_000 + b"{}" + b"}" * 5_000,
    ],
)
async def test_what_is_not_a_json_object_is_refused(running: Any, world: Any, body: bytes) -> None:
    _, kubelet = running
    for path in (POD + "/status", "/api/v1/nodes/kip-provider-0/status"):
        answer = await kubelet.ask("PATCH", path, body, content_type=STRATEGIC)
        assert (answer.status, answer.reason) == (400, "BadRequest")
    assert world.hooks.failures == []
    assert world.upstream.asked == []


async def test_a_refusal_is_told_once(running: Any, world: Any) -> None:
    _, kubelet = running
    for name in ("other", "another", "other"):
        assert (await kubelet.get(f"/api/v1/namespaces/shop/secrets/{name}")).status == 403
    await kubelet.get("/api/v1/namespaces/bank/configmaps/x")
    assert [(method, resource) for method, resource, _ in world.hooks.refusals] == [
        ("GET", "secrets"),
        ("GET", "configmaps"),
    ]


async def test_refusals_of_ever_new_things_stop_being_told(running: Any, world: Any) -> None:
    _, kubelet = running
    for number in range(100):
        await kubelet.get(f"/thing-{number}")
    assert len(world.hooks.refusals) == 65
    assert "no more" in world.hooks.refusals[-1][2]


async def test_an_unreachable_api_server_is_503(running: Any, world: Any) -> None:
    _, kubelet = running
    world.upstream.reachable = False
    answer = await kubelet.get(SECRET)
    assert (answer.status, answer.reason) == (503, "ServiceUnavailable")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, {"reason": "Unauthorized"}),
        (
            403,
            {"message": 'users "system:node:x" is forbidden: User "kip" cannot impersonate resource "users"'},
        ),
    ],
)
async def test_a_refusal_of_the_operator_is_not_the_cells(
    running: Any, world: Any, make_reply: Any, status: int, body: Any
) -> None:
    world.upstream.answers.append(make_reply(status, body))
    assert (await running[1].get(SECRET)).status == 503


async def test_the_api_servers_answer_is_passed_on(running: Any, world: Any, make_reply: Any) -> None:
    world.upstream.answers.append(
        make_reply(429, {"kind": "Status"}, **{"Retry-After": "7", "X-Internal": "a"})
    )
    answer = await running[1].get(SECRET)
    assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
    assert "X-Internal" not in answer.headers


async def test_our_own_faults_are_told_and_answered(running: Any, world: Any, monkeypatch: Any) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise LookupError("oops")

    monkeypatch.setattr(world.upstream, "request", broken)
    answer = await running[1].get(SECRET)
    assert (answer.status, answer.reason) == (500, "InternalError")
    assert "oops" not in answer.text
    await running[1].get(SECRET)
    assert [type(error) for error in world.hooks.failures] == [LookupError], "told once"


async def test_every_answer_is_counted_by_its_rule(running: Any, world: Any) -> None:
    _, kubelet = running
    await kubelet.get("/api/v1/nodes/kip-provider-0")
    await kubelet.get("/whatever/it/is")
    assert world.hooks.answers == [("GET /api/v1/nodes/{node}", "own", 200), ("no rule", "deny", 403)]


async def test_errors_are_kubernetes_statuses(running: Any) -> None:
    answer = await running[1].get("/api/v1/namespaces/shop/secrets/other")
    assert answer.headers["Content-Type"] == "application/json"
    assert json.loads(answer.text) == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "the cell's pod does not refer to it",
        "reason": "Forbidden",
        "code": 403,
    }
