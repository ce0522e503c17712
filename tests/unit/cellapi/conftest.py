"""A cell API over real sockets, real stores, and an API server that remembers what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from kip.cellapi.identity import CellIdentity
from kip.cellapi.limits import Limits
from kip.cellapi.server import CellApi
from kip.cellapi.session import CellSession
from kip.cloud.errors import NotAuthorized
from kip.images.lending import Lending
from kip.kube.client import Impersonation, Reply
from kip.kube.errors import Unavailable
from kip.kube.store import PodStore, Store
from kip.oci.credentials import Credential

TOKEN = "root-only-token-of-cell-a"
NODE = "kip-provider-0"


class FakeClock:
    """Moves only when told to, but never gives the same wall time twice."""

    def __init__(self) -> None:
        self.wall = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        self.seconds = 0.0

    def now(self) -> datetime:
        self.wall += timedelta(microseconds=1)
        return self.wall

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@dataclass
class Asked:
    """One request that reached the API server."""

    method: str
    path: str
    params: dict[str, str]
    body: Any
    content_type: str | None
    impersonate: Impersonation | None


@dataclass
class FakeApiServer:
    """Objects by path. Writes are remembered and answered with what was sent."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    answers: list[Reply] = field(default_factory=list)
    """Given, first come first served, instead of what would be answered."""
    reachable: bool = True

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Any = None,
        body: bytes | None = None,
        content_type: str | None = None,
        accept: str = "application/json",
        impersonate: Impersonation | None = None,
        timeout_s: float = 30,
    ) -> Reply:
        decoded = json.loads(body) if body else None
        self.asked.append(Asked(method, path, dict(params or {}), decoded, content_type, impersonate))
        if not self.reachable:
            raise Unavailable("connection refused")
        if self.answers:
            return self.answers.pop(0)
        if method == "POST":
            return reply(201, decoded)
        if path not in self.objects and not path.endswith("/status"):
            return reply(404, {"kind": "Status", "code": 404, "reason": "NotFound"})
        return reply(200, decoded if method == "PATCH" else self.objects.get(path))

    @property
    def writes(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.method != "GET"]


def reply(status: int, obj: Any, **headers: str) -> Reply:
    given = CIMultiDict({"Content-Type": "application/json", "Connection": "close", **headers})
    return Reply(status, CIMultiDictProxy(given), json.dumps(obj).encode())


class RecordingHooks:
    def __init__(self) -> None:
        self.answers: list[tuple[str, str, int]] = []
        self.refusals: list[tuple[str, str, str]] = []
        self.failures: list[BaseException] = []
        self.missed_logins: list[tuple[str, str]] = []

    def answered(self, rule: str, verdict: str, code: int, seconds: float) -> None:
        self.answers.append((rule, verdict, code))

    def refused(self, cell: CellIdentity, method: str, resource: str, reason: str) -> None:
        self.refusals.append((method, resource, reason))

    def failed(self, cell: CellIdentity, method: str, resource: str, error: BaseException) -> None:
        self.failures.append(error)

    def pull_failed(self, cell: CellIdentity, trouble: str) -> None:
        self.missed_logins.append((cell.pod, trouble))


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def reason(self) -> str:
        return str(self.json.get("reason"))


class Watch:
    """The events of an open watch, each waited for with a deadline."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self._content = response.content

    async def next(self, timeout_s: float = 5) -> tuple[str, Any]:
        try:
            line = await asyncio.wait_for(self._content.readline(), timeout_s)
        except TimeoutError:
            raise AssertionError(f"no event within {timeout_s} s") from None
        assert line, "the watch ended"
        event = json.loads(line)
        return event["type"], event["object"]

    async def silent(self, for_s: float = 0.1) -> bool:
        try:
            line = await asyncio.wait_for(self._content.readline(), for_s)
        except TimeoutError:
            return True
        raise AssertionError(f"an event where none was expected: {line!r}")

    async def ended(self, timeout_s: float = 5) -> bool:
        try:
            return await asyncio.wait_for(self._content.readline(), timeout_s) == b""
        except aiohttp.ClientError:
            return True


class Kubelet:
    """Whoever speaks on a cell's socket."""

    def __init__(self, socket_path: Path, token: str | None = TOKEN) -> None:
        self.socket_path = socket_path
        self._headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        self._session: aiohttp.ClientSession | None = None

    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.UnixConnector(path=str(self.socket_path), limit=0)
            self._session = aiohttp.ClientSession(
                connector=connector, headers=self._headers, timeout=aiohttp.ClientTimeout(total=20)
            )
        return self._session

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        **params: str,
    ) -> Answer:
        data = (
            body if isinstance(body, (bytes, type(None))) or hasattr(body, "__aiter__") else json.dumps(body)
        )
        headers = {"Content-Type": content_type} if body is not None else {}
        url = "http://cell" + path
        async with self.session().request(method, url, params=params, data=data, headers=headers) as response:
            return Answer(response.status, dict(response.headers), await response.text())

    async def get(self, path: str, **params: str) -> Answer:
        return await self.ask("GET", path, **params)

    async def patch(self, path: str, body: Any) -> Answer:
        return await self.ask("PATCH", path, body, content_type="application/strategic-merge-patch+json")

    @asynccontextmanager
    async def watch(self, path: str, **params: str) -> AsyncIterator[Watch]:
        query = {"watch": "true", **params}
        async with self.session().get("http://cell" + path, params=query) as response:
            yield Watch(response)

    async def raw(self, data: bytes, *, timeout_s: float = 5) -> bytes:
        """Send bytes, and what looks like HTTP least of all; return what comes back until the connection ends."""
        reader, writer = await asyncio.open_unix_connection(str(self.socket_path))
        try:
            writer.write(data)
            await writer.drain()
            return await asyncio.wait_for(reader.read(), timeout_s)
        finally:
            writer.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


class FakeEcr:
    """Logins to the registries of ECR in account 123456789012, another one each time."""

    def __init__(self) -> None:
        self.given = 0
        self.refuses = ""

    def are_for(self, host: str) -> bool:
        return host.startswith("123456789012.dkr.ecr.")

    async def login(self, host: str) -> Credential | None:
        if self.refuses:
            raise NotAuthorized(self.refuses, action="GetAuthorizationToken", code="AccessDeniedException")
        self.given += 1
        return Credential("AWS", f"token-{self.given}")


@dataclass
class World:
    """A cell API with everything around it."""

    api: CellApi
    upstream: FakeApiServer
    pods: PodStore
    services: Store
    csidrivers: Store
    runtimeclasses: Store
    clock: FakeClock
    hooks: RecordingHooks
    node: dict[str, Any] | None
    following: asyncio.Task[None]
    ecr: FakeEcr
    kubelets: list[Kubelet] = field(default_factory=list)

    async def open(
        self, identity: CellIdentity, token: str = TOKEN, **more: Any
    ) -> tuple[CellSession, Kubelet]:
        session = await self.api.open(identity, token, **more)
        return session, self.kubelet(session, token)

    def kubelet(self, session: CellSession, token: str | None = TOKEN) -> Kubelet:
        kubelet = Kubelet(session.socket_path, token)
        self.kubelets.append(kubelet)
        return kubelet


def _pod(
    name: str = "web", namespace: str = "shop", uid: str = "uid-web", version: str = "20", **more: Any
) -> Any:
    metadata = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": version}
    spec = {
        "nodeName": NODE,
        "serviceAccountName": "seller",
        "containers": [
            {
                "name": "main",
                "resources": {"requests": {"cpu": "1500m", "memory": "1Gi"}},
                "envFrom": [{"secretRef": {"name": "prices"}}],
            }
        ],
        "volumes": [
            {"name": "config", "configMap": {"name": "shelf"}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "disk"}},
        ],
    }
    return {
        "metadata": {**metadata, **more.pop("metadata", {})},
        "spec": {**spec, **more.pop("spec", {})},
        "status": {"phase": "Pending", **more.pop("status", {})},
        **more,
    }


def _service(name: str, namespace: str = "shop", version: str = "5", cluster_ip: str = "10.96.0.9") -> Any:
    uid = f"uid-{namespace}-{name}"
    metadata = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": version}
    return {"metadata": metadata, "spec": {"clusterIP": cluster_ip}}


@pytest.fixture
def make_pod() -> Callable[..., Any]:
    return _pod


@pytest.fixture
def make_service() -> Callable[..., Any]:
    return _service


@pytest.fixture
def make_reply() -> Callable[..., Reply]:
    return reply


@pytest.fixture
def identity() -> CellIdentity:
    return CellIdentity(
        cell_name="cell-a",
        cell_uid="0a0a",
        node_name=NODE,
        namespace="shop",
        pod_name="web",
        pod_uid="uid-web",
        cell_address="10.0.0.7",
        capacity={"cpu": "2", "memory": "4Gi", "ephemeral-storage": "20Gi", "pods": "20"},
    )


@pytest.fixture
def virtual_node() -> dict[str, Any]:
    return {
        "metadata": {
            "name": NODE,
            "uid": "uid-node",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "resourceVersion": "3",
            "labels": {"type": "virtual-kubelet", "kubernetes.io/hostname": NODE},
            "annotations": {"node.alpha.kubernetes.io/ttl": "0"},
            "managedFields": [{"manager": "kip"}],
        },
        "spec": {
            "providerID": f"kip://test/{NODE}",
            "taints": [
                {"key": "virtual-kubelet.io/provider", "value": "kip", "effect": "NoSchedule"},
                {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
            ],
        },
        "status": {
            "capacity": {"cpu": "1000", "memory": "4Ti", "pods": "1000"},
            "allocatable": {"cpu": "1000", "memory": "4Ti", "pods": "1000"},
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
        },
    }


@pytest.fixture
def limits(request: pytest.FixtureRequest) -> Limits:
    """Short enough to wait for; a test may have others by indirect parametrization."""
    usual = Limits(
        read_s=0.3, write_s=2, idle_s=0.4, penalty_s=0.01, body_bytes=64 * 1024, own_object_bytes=32 * 1024
    )
    return replace(usual, **getattr(request, "param", {}))


@pytest.fixture
async def world(tmp_path: Path, virtual_node: dict[str, Any], limits: Limits) -> AsyncIterator[World]:
    clock, hooks, upstream, ecr = FakeClock(), RecordingHooks(), FakeApiServer(), FakeEcr()
    pods, services, csidrivers, runtimeclasses = PodStore(), Store(), Store(), Store()
    for store in (pods, services, csidrivers, runtimeclasses):
        store.replace([], "10")
    api = CellApi(
        upstream=upstream,
        pods=pods,
        services=services,
        csidrivers=csidrivers,
        runtimeclasses=runtimeclasses,
        node=lambda: world.node,
        clock=clock,
        socket_dir=tmp_path / "s",
        limits=limits,
        hooks=hooks,
        lending=Lending(ecr),
    )
    following = asyncio.create_task(api.run())
    world = World(
        api, upstream, pods, services, csidrivers, runtimeclasses, clock, hooks, virtual_node, following, ecr
    )
    yield world
    await api.close()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    for kubelet in world.kubelets:
        await kubelet.close()


@pytest.fixture
async def running(world: World, identity: CellIdentity) -> tuple[CellSession, Kubelet]:
    """A cell whose pod is there and shown."""
    world.pods.replace([_pod()], "30")
    session, kubelet = await world.open(identity)
    session.show_pod()
    return session, kubelet
