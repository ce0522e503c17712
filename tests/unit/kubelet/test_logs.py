from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from kip.kube.errors import ApiError, Unavailable
from kip.kubelet import logs
from kip.kubelet.cell import CellUnreachable
from kip.kubelet.http1 import HttpError
from kip.kubelet.keptformat import from_secret, pod_label
from kip.kubelet.logs import KeptLogs, wanted_logs
from kip.kubelet.routes import PodRoute
from kip.model.clock import to_rfc3339

SECRETS = "/api/v1/namespaces/kip/secrets"
LINE = b"2026-01-01T00:00:%02d.000000000Z line %d\n"
POD: dict[str, Any] = {
    "metadata": {"namespace": "ns", "name": "web-0", "uid": "uid-web-0"},
    "spec": {
        "initContainers": [{"name": "init"}],
        "containers": [{"name": "app"}, {"name": "side"}],
        "ephemeralContainers": [{"name": "debug"}],
    },
    "status": {
        "initContainerStatuses": [{"name": "init", "lastState": {}}],
        "containerStatuses": [
            {"name": "app", "restartCount": 2, "lastState": {"terminated": {"exitCode": 1}}},
            {"name": "side"},
        ],
    },
}


class Secrets:
    """The API server's Secrets of one namespace, as far as they matter here."""

    def __init__(self, api: Any, clock: Any) -> None:
        self.api, self.clock = api, clock
        self.objects: dict[str, Any] = {}
        api.on("POST", SECRETS, self.create)
        for uid in ("uid-web-0", "old", "new"):
            api.on("PATCH", f"{SECRETS}/kip-logs-{uid}", lambda call: self.put(call.body))
        api.on("GET", SECRETS, self.list)

    def create(self, call: Any) -> Any:
        name = call.body["metadata"]["name"]
        if name in self.objects:
            return self.api.refusal(409, "AlreadyExists")
        self.put(call.body)
        return call.body

    def put(self, secret: Any) -> Any:
        name = secret["metadata"]["name"]
        secret["metadata"].setdefault("creationTimestamp", to_rfc3339(self.clock.now()))
        self.objects[name] = secret
        self.api.on("GET", f"{SECRETS}/{name}", lambda _call: self.objects[name])
        self.api.on("DELETE", f"{SECRETS}/{name}", lambda _call: self.remove(name))
        return secret

    def remove(self, name: str) -> Any:
        for method in ("GET", "DELETE"):
            del self.api.routes[method, f"{SECRETS}/{name}"]
        return self.objects.pop(name)

    def list(self, call: Any) -> Any:
        wanted = dict(part.partition("=")[::2] for part in call.params["labelSelector"].split(","))
        items = [
            one
            for one in self.objects.values()
            if all(key in one["metadata"]["labels"] for key in wanted)
            and all(not value or one["metadata"]["labels"][key] == value for key, value in wanted.items())
        ]
        begin = int(call.params.get("continue", "0"))
        size = 2 if "limit" in call.params else len(items) or 1
        metadata = {"continue": str(begin + size)} if begin + size < len(items) else {}
        return {"metadata": metadata, "items": items[begin : begin + size]}


@pytest.fixture
def secrets(api: Any, clock: Any) -> Secrets:
    return Secrets(api, clock)


@pytest.fixture
def kept(api: Any, clock: Any, cell_tls: Any) -> KeptLogs:
    return KeptLogs(api, cell_tls, clock, namespace="kip", node_name="kip-0", limit_bytes=2000)


def kubelet_with(texts: dict[str, bytes]) -> Any:
    """A kubelet that has these logs, by container and `container?previous`, and refuses all others."""

    async def script(head: bytes, _reader: Any, writer: Any) -> None:
        target = head.split()[1].decode()
        container = target.partition("?")[0].rpartition("/")[2] + (
            "?previous" if "previous=true" in target else ""
        )
        assert "timestamps=true" in target
        if container in texts:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for begin in range(0, len(texts[container]), 777):
                part = texts[container][begin : begin + 777]
                writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            writer.write(b"0\r\n\r\n")
        else:
            message = f'container "{container}" in pod "web-0" is waiting to start: PodInitializing'.encode()
            writer.write(
                b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%b" % (len(message), message)
            )
        await writer.drain()

    return script


TEXTS = {
    "init": LINE % (1, 1),
    "app": b"".join(LINE % (i, i) for i in range(60)),
    "app?previous": LINE % (7, 7),
    "side": b"",
}


def route(container: str) -> PodRoute:
    return PodRoute("containerLogs", "ns", "web-0", None, container)


async def shown(
    kept: KeptLogs, container: str, *query: tuple[str, str], uid: str | None = None
) -> tuple[int, bytes]:
    answer = await kept.serve(route(container), list(query), uid)
    assert answer is not None
    return answer.status, answer.body


def test_every_log_a_kubelet_may_have() -> None:
    assert list(wanted_logs(POD)) == [
        ("init", False),
        ("app", False),
        ("app", True),
        ("side", False),
        ("debug", False),
    ]
    assert list(wanted_logs({"metadata": {}, "spec": {"containers": [{"name": "a"}]}})) == [("a", False)]


async def test_kept_and_answered(kept: KeptLogs, cells: Any, secrets: Secrets) -> None:
    await cells.add("ns", "web-0", kubelet_with(TEXTS))
    report = await kept.keep(cells.find("ns", "web-0"), POD)
    assert (report.secret, report.cut, report.unread) == ("kip-logs-uid-web-0", ("app",), ())
    for uid in (None, "uid-web-0"):
        assert await shown(kept, "init", uid=uid) == (200, b"line 1\n")
        assert await shown(kept, "app", ("previous", "true"), uid=uid) == (200, b"line 7\n")
        assert await shown(kept, "side", uid=uid) == (200, b"")
        assert await shown(kept, "debug", uid=uid) == (
            400,
            b'container "debug" in pod "web-0" is waiting to start: PodInitializing',
        )
        assert (await shown(kept, "init", ("previous", "true"), uid=uid))[0] == 400
        assert (await shown(kept, "stranger", uid=uid))[0] == 404


async def test_of_a_long_log_the_end_is_kept_and_said_so(
    kept: KeptLogs, cells: Any, secrets: Secrets
) -> None:
    await cells.add("ns", "web-0", kubelet_with(TEXTS))
    await kept.keep(cells.find("ns", "web-0"), POD)
    status, text = await shown(kept, "app")
    first, *rest = text.decode().splitlines()
    assert status == 200
    assert first.startswith("[kip: the ")
    assert rest == [f"line {i}" for i in range(60 - len(rest), 60)]
    assert 40 < len(rest) < 60
    assert await shown(kept, "app", ("tailLines", "1")) == (200, b"line 59\n")
    assert await shown(kept, "app", ("follow", "true"), ("tailLines", "1"), ("timestamps", "true")) == (
        200,
        LINE % (59, 59),
    )


async def test_bad_options_are_refused(kept: KeptLogs, cells: Any, secrets: Secrets) -> None:
    await cells.add("ns", "web-0", kubelet_with(TEXTS))
    await kept.keep(cells.find("ns", "web-0"), POD)
    with pytest.raises(HttpError, match="tailLines"):
        await kept.serve(route("app"), [("tailLines", "x")], None)


async def test_nothing_kept_is_no_answer(kept: KeptLogs, secrets: Secrets) -> None:
    assert await kept.serve(route("app"), [], None) is None
    assert await kept.serve(route("app"), [("tailLines", "x")], "uid") is None


async def test_keeping_twice_is_fine_and_a_poorer_second_time_changes_nothing(
    kept: KeptLogs, cells: Any, secrets: Secrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cells.add("ns", "web-0", kubelet_with(TEXTS))
    await kept.keep(cells.find("ns", "web-0"), POD)
    more = {**TEXTS, "side": LINE % (9, 9)}
    cells.close()
    await cells.add("ns", "web-0", kubelet_with(more))
    await kept.keep(cells.find("ns", "web-0"), POD)
    assert await shown(kept, "side") == (200, b"line 9\n")

    monkeypatch.setattr(logs, "_FETCH_DEADLINE_S", 0.5)

    async def half_dead(head: bytes, reader: Any, writer: Any) -> None:
        if b"/side?" in head:
            await kubelet_with({"side": b""})(head, reader, writer)
        else:
            await reader.read()

    await cells.add("ns", "web-1", half_dead)
    report = await kept.keep(cells.find("ns", "web-1"), POD)
    assert set(report.unread) == {"init", "app", "debug"}
    assert await shown(kept, "side") == (200, b"line 9\n")


async def test_a_log_that_cannot_be_read_any_more_says_so(
    kept: KeptLogs, cells: Any, secrets: Secrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies_on_app(head: bytes, reader: Any, writer: Any) -> None:
        if b"/app?" in head:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf a li")
            await writer.drain()
            writer.transport.abort()
        else:
            await kubelet_with(TEXTS)(head, reader, writer)

    await cells.add("ns", "web-0", dies_on_app)
    report = await kept.keep(cells.find("ns", "web-0"), POD)
    assert set(report.unread) == {"app"}
    status, text = await shown(kept, "app")
    assert status == 400
    assert b"could not be read" in text
    assert await shown(kept, "init") == (200, b"line 1\n")


async def test_a_cell_that_gives_nothing_stores_nothing(kept: KeptLogs, cells: Any, secrets: Secrets) -> None:
    with pytest.raises(CellUnreachable):
        await kept.keep(cells.put("ns", "web-0", None), POD)
    assert secrets.objects == {}


async def test_a_refused_secret_is_an_error(kept: KeptLogs, cells: Any, api: Any, secrets: Secrets) -> None:
    await cells.add("ns", "web-0", kubelet_with(TEXTS))
    api.on(
        "PATCH", f"{SECRETS}/kip-logs-uid-web-0", {"message": "exceeded quota", "reason": "Forbidden"}, 403
    )
    with pytest.raises(ApiError, match="exceeded quota"):
        await kept.keep(cells.find("ns", "web-0"), POD)


async def test_of_two_pods_with_one_name_the_newer_answers(
    kept: KeptLogs, cells: Any, secrets: Secrets, clock: Any
) -> None:
    for uid, text in (("old", LINE % (1, 1)), ("new", LINE % (2, 2))):
        cells.close()
        await cells.add("ns", "web-0", kubelet_with({"app": text}), uid=uid)
        pod = {"metadata": {**POD["metadata"], "uid": uid}, "spec": {"containers": [{"name": "app"}]}}
        await kept.keep(cells.find("ns", "web-0"), pod)
        clock.advance(60)
    assert await shown(kept, "app") == (200, b"line 2\n")
    assert await shown(kept, "app", uid="old") == (200, b"line 1\n")


async def test_deleting_is_idempotent(kept: KeptLogs, cells: Any, secrets: Secrets) -> None:
    await cells.add("ns", "web-0", kubelet_with(TEXTS))
    await kept.keep(cells.find("ns", "web-0"), POD)
    await kept.delete("uid-web-0")
    await kept.delete("uid-web-0")
    assert secrets.objects == {}


def stored(uid: str, clock: Any, *, age_s: float, node: str = "kip-0") -> Any:
    return {
        "metadata": {
            "name": f"kip-logs-{uid}",
            "creationTimestamp": to_rfc3339(clock.now() - timedelta(seconds=age_s)),
            "labels": {
                "kip.elotl.co/pod-uid": uid,
                "kip.elotl.co/node": node,
                "kip.elotl.co/pod": pod_label("ns", uid),
            },
        }
    }


async def test_a_sweep_takes_what_belongs_to_no_pod(kept: KeptLogs, secrets: Secrets, clock: Any) -> None:
    for i in range(5):
        secrets.put(stored(f"gone-{i}", clock, age_s=600))
    secrets.put(stored("lives", clock, age_s=600))
    secrets.put(stored("just-now", clock, age_s=10))
    secrets.put(stored("of-another-node", clock, age_s=600, node="kip-1"))
    assert await kept.sweep({"lives"}) == 5
    assert {one["metadata"]["labels"]["kip.elotl.co/pod-uid"] for one in secrets.objects.values()} == {
        "lives",
        "just-now",
        "of-another-node",
    }


async def test_troubles_of_the_api_server_are_told(kept: KeptLogs, api: Any) -> None:
    api.on("GET", SECRETS, {"message": "secrets is forbidden", "reason": "Forbidden"}, 403)
    with pytest.raises(HttpError, match="forbidden") as refused:
        await kept.serve(route("app"), [], None)
    assert refused.value.status == 502
    api.down = Unavailable("no route")
    with pytest.raises(HttpError, match="no route"):
        await kept.serve(route("app"), [], None)
    with pytest.raises(Unavailable):
        await kept.sweep(set())


async def test_a_damaged_secret_is_named(kept: KeptLogs, secrets: Secrets, clock: Any) -> None:
    secrets.put(stored("damaged", clock, age_s=1))
    with pytest.raises(HttpError, match="kip-logs-damaged") as refused:
        await kept.serve(route("app"), [], "damaged")
    assert refused.value.status == 502


async def test_many_containers_are_fetched_few_at_a_time(
    kept: KeptLogs, cells: Any, secrets: Secrets
) -> None:
    at_once = most = 0

    async def count(head: bytes, reader: Any, writer: Any) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.02)
        at_once -= 1
        await kubelet_with({f"c{i}": b"" for i in range(12)})(head, reader, writer)

    await cells.add("ns", "web-0", count)
    pod = {**POD, "spec": {"containers": [{"name": f"c{i}"} for i in range(12)]}}
    await kept.keep(cells.find("ns", "web-0"), pod)
    assert most == 4
    assert len(from_secret(secrets.objects["kip-logs-uid-web-0"])[1]) == 12
