"""The virtual node's kubelet API behind a real API server, which verifies its certificate, and real kubectl."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import secrets
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from cryptography import x509

from kip.kube.client import ApiClient
from kip.kubelet import pki
from kip.kubelet.auth import Authenticator, Authorizer
from kip.kubelet.certificate import EKS_APP_SERVING, ServingCertificate, Wanted
from kip.kubelet.clientca import ClientCa
from kip.kubelet.directory import Endpoint
from kip.kubelet.http1 import HttpError
from kip.kubelet.logs import KeptLogs
from kip.kubelet.server import KubeletServer
from kip.local.build import KUBERNETES, program
from kip.model.clock import SystemClock

pytestmark = pytest.mark.integration

NODE = "kip-provider-3"  # one that deploy/kustomize/base/rbac.yaml lets the operator act as
CLOCK = SystemClock()
POD_LOG = b"".join(b"2026-01-01T00:00:0%d.000000000Z line %d\n" % (i, i) for i in range(5))
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


class Kubectl:
    """Real kubectl."""

    def __init__(self, kubeconfig: Path) -> None:
        self._command = [str(program(KUBERNETES, "kubectl")), "--kubeconfig", str(kubeconfig)]

    async def run(self, *arguments: str, given: str = "") -> Done:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(60):
                out, err = await process.communicate(given.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Done(process.returncode or 0, out.decode(), err.decode())

    async def __call__(self, *arguments: str, given: str = "") -> str:
        done = await self.run(*arguments, given=given)
        assert done.code == 0, f"kubectl {' '.join(arguments)}: {done.err}"
        return done.out

    async def apply(self, manifest: dict[str, Any]) -> None:
        await self("apply", "-f", "-", given=json.dumps(manifest))

    async def eventually(self, *arguments: str, contains: str) -> None:
        async with asyncio.timeout(20):
            while contains not in (await self.run(*arguments)).out:
                await asyncio.sleep(0.1)


@dataclass
class CellKubelet:
    """What a cell's kubelet does, as far as the API server sees it: logs, and exec over WebSocket."""

    requests: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            target = urlsplit(head.split()[1])
            if target.path.startswith("/containerLogs/"):
                self._log(writer, dict(parse_qsl(target.query)))
            elif "upgrade: websocket" in head.lower():
                await self._exec(reader, writer, head, target.query)
            elif target.path == "/metrics/resource":
                _answer(
                    writer,
                    200,
                    b"# TYPE node_cpu_usage_seconds_total counter\nnode_cpu_usage_seconds_total 1.5\n",
                )
            else:
                _answer(writer, 400, b"this cell does not like " + head.split()[1].encode())
            await writer.drain()
        writer.close()

    def _log(self, writer: asyncio.StreamWriter, query: dict[str, str]) -> None:
        if query.get("previous") == "true":
            _answer(writer, 400, b'previous terminated container "main" in pod "pod" not found')
            return
        lines = POD_LOG.splitlines(keepends=True)
        if "tailLines" in query:
            lines = lines[-int(query["tailLines"]) :]
        if query.get("timestamps") != "true":
            lines = [line.partition(b" ")[2] for line in lines]
        _answer(writer, 200, b"".join(lines))

    async def _exec(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str, query: str
    ) -> None:
        key = next(
            line for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key: ")
        ).split()[1]
        accept = base64.b64encode(hashlib.sha1(key.encode() + _WEBSOCKET_GUID).digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Protocol: v5.channel.k8s.io\r\nSec-WebSocket-Accept: %b\r\n\r\n" % accept
        )
        command = " ".join(value for name, value in parse_qsl(query) if name == "command")
        writer.write(_frame(b"\x01ran: " + command.encode() + b"\n"))
        writer.write(_frame(b"\x03" + json.dumps({"metadata": {}, "status": "Success"}).encode()))
        writer.write(b"\x88\x02\x03\xe8")
        await writer.drain()
        await reader.read()


def _answer(writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
    writer.write(
        b"HTTP/1.1 %d X\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b"
        % (status, len(body), body)
    )


def _frame(payload: bytes) -> bytes:
    assert len(payload) < 126
    return b"\x82%c%b" % (len(payload), payload)


class Directory:
    """Pods of the virtual node by name."""

    def __init__(self) -> None:
        self.endpoints: dict[tuple[str, str], Endpoint] = {}

    def find(self, namespace: str, pod: str, uid: str | None = None) -> Endpoint | None:
        endpoint = self.endpoints.get((namespace, pod))
        return None if endpoint is None or uid not in (None, endpoint.pod_uid) else endpoint

    def why_silent(self, namespace: str, pod: str, uid: str | None = None) -> str | None:
        return None

    def all(self) -> list[Endpoint]:
        return list(self.endpoints.values())


class Journals:
    """What the cell's own programs have written."""

    async def run(self, cell: str, command: str, *, most_bytes: int, timeout_s: float) -> bytes:
        if cell != "cell-1":
            raise HttpError(404, f"there is no cell {cell} of this node")
        return f"{cell}: {command}\n".encode()


@dataclass
class World:
    """A virtual node with one pod, whose cell is a fake and everything else is real."""

    control_plane: Any
    admin: Kubectl
    client: ApiClient
    certificate: ServingCertificate
    server: KubeletServer
    directory: Directory
    kept: KeptLogs
    kubelet: CellKubelet
    address: str
    namespace: str
    pod: dict[str, Any]

    @property
    def endpoint(self) -> Endpoint:
        return self.directory.endpoints[self.namespace, "pod"]

    async def kubectl(self, *arguments: str) -> Done:
        return await self.admin.run("-n", self.namespace, *arguments)

    def cell_goes(self) -> None:
        del self.directory.endpoints[self.namespace, "pod"]


@pytest.fixture
def address(control_plane: Any) -> str:
    return str(control_plane.world.host_address)


@pytest.fixture
def admin(control_plane: Any) -> Kubectl:
    return Kubectl(control_plane.kubeconfig)


@pytest.fixture
async def client(control_plane: Any) -> AsyncIterator[ApiClient]:
    """With the permissions of deploy/kustomize/base/rbac.yaml and no others."""
    made = await ApiClient.connect(control_plane.world.operator_kubeconfig)
    yield made
    await made.close()


@pytest.fixture
async def world(
    control_plane: Any, admin: Kubectl, client: ApiClient, address: str, tmp_path: Path
) -> AsyncIterator[World]:
    authority = pki.new_authority(CLOCK)
    cell_tls = pki.CellClient(authority, CLOCK)
    kubelet, directory = CellKubelet(), Directory()
    cell_context = pki.server_context(pki.self_signed("cell", ["127.0.0.1"], CLOCK), authority.certificate)
    cell_context.verify_mode = ssl.CERT_REQUIRED
    cell = await asyncio.start_unix_server(kubelet.serve, str(tmp_path / "cell.sock"), ssl=cell_context)
    certificate = ServingCertificate(client, Wanted(NODE, [address]), CLOCK)
    await certificate.start()
    kept = KeptLogs(client, cell_tls, CLOCK, namespace="kip", node_name=NODE)
    server = KubeletServer(
        host=address,
        port=0,
        tls=certificate,
        client_ca=ClientCa(client, CLOCK),
        authenticator=Authenticator(client, CLOCK),
        authorizer=Authorizer(client, NODE, CLOCK),
        directory=directory,
        cell_tls=cell_tls,
        kept_logs=kept,
        system_logs=Journals(),
        node_name=NODE,
        clock=CLOCK,
    )
    await server.start()
    namespace = f"t-{secrets.token_hex(4)}"
    await _make_node(admin, address, server.port)
    pod = await _make_pod(admin, namespace)
    directory.endpoints[namespace, "pod"] = Endpoint(
        "cell-1", namespace, "pod", pod["metadata"]["uid"], tmp_path / "cell.sock", "10.0.0.7"
    )
    yield World(
        control_plane, admin, client, certificate, server, directory, kept, kubelet, address, namespace, pod
    )
    await server.close()
    cell.close()
    await kept.delete(pod["metadata"]["uid"])
    await admin("delete", "namespace", namespace, "--wait=false")
    await admin(
        "-n", namespace, "delete", "pod", "--all", "--force", "--grace-period=0", "--ignore-not-found"
    )
    await admin("delete", "node", NODE)


async def _make_node(admin: Kubectl, address: str, port: int) -> None:
    await admin.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
    status = {
        "addresses": [{"type": "InternalIP", "address": address}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }
    await _patch_node_status(admin, status)


async def _patch_node_status(admin: Kubectl, status: dict[str, Any]) -> None:
    await admin(
        "patch", "node", NODE, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status})
    )


async def _make_pod(admin: Kubectl, namespace: str) -> dict[str, Any]:
    await admin("create", "namespace", namespace)
    await admin.eventually(
        "-n", namespace, "get", "serviceaccounts", "-o", "name", contains="serviceaccount/default"
    )
    containers = [{"name": "main", "image": "demo.kip.local/web:1"}]
    await admin.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "pod", "namespace": namespace},
            "spec": {"nodeName": NODE, "containers": containers},
        }
    )
    status = json.dumps({"status": {"phase": "Running"}})
    await admin("-n", namespace, "patch", "pod", "pod", "--subresource=status", "--type=merge", "-p", status)
    return dict(json.loads(await admin("-n", namespace, "get", "pod", "pod", "-o", "json")))


async def test_the_certificate_is_the_clusters(world: World) -> None:
    assert world.certificate.problem is None
    certificate = x509.load_pem_x509_certificate(world.certificate.pair.certificate)
    authority = x509.load_pem_x509_certificate(world.control_plane.certificate_authority.read_bytes())
    certificate.verify_directly_issued_by(authority)
    assert certificate.subject.rfc4514_string() == f"CN=system:node:{NODE},O=system:nodes"
    assert NODE not in await world.admin("get", "csr", "-o", "name")


async def test_a_signer_that_nobody_serves_is_told(client: ApiClient, address: str) -> None:
    class Hurried(SystemClock):
        """Thirty seconds of waiting pass in three."""

        async def sleep(self, seconds: float) -> None:
            await asyncio.sleep(seconds / 10)

        def monotonic(self) -> float:
            return super().monotonic() * 10

    certificate = ServingCertificate(client, Wanted(NODE, [address], EKS_APP_SERVING), Hurried())
    await certificate.start()
    assert certificate.problem is not None
    assert certificate.problem.reason == "CertificateNotIssued"


async def test_logs(world: World) -> None:
    assert (await world.kubectl("logs", "pod")).out == "".join(f"line {i}\n" for i in range(5))
    assert (
        await world.kubectl("logs", "pod", "--tail=1", "--timestamps", "-f")
    ).out == POD_LOG.decode().splitlines(True)[-1]
    previous = await world.kubectl("logs", "pod", "--previous")
    assert previous.code != 0
    assert "previous terminated container" in previous.err
    assert not any("authorization" in request.lower() for request in world.kubelet.requests)


async def test_exec_over_websocket(world: World) -> None:
    """An API server from 1.36 on sends it as it came, to nodes that say they can take it."""
    await _patch_node_status(world.admin, {"declaredFeatures": ["ExtendWebSocketsToKubelet"]})
    async with asyncio.timeout(20):
        while not world.kubelet.requests or "upgrade: websocket" not in world.kubelet.requests[-1].lower():
            done = await world.kubectl("exec", "pod", "--", "echo", "a b", "ü")
    assert (done.code, done.out) == (0, "ran: echo a b ü\n"), done.err


async def test_exec_that_the_cell_refuses(world: World) -> None:
    done = await world.kubectl("exec", "pod", "--", "true")
    assert done.code != 0
    assert "this cell does not like /exec/" in done.err
    assert "upgrade: spdy/3.1" in world.kubelet.requests[-1].lower()


async def test_a_cell_that_is_not_connected(world: World) -> None:
    endpoint = world.endpoint
    world.directory.endpoints[world.namespace, "pod"] = Endpoint(
        endpoint.cell, endpoint.namespace, endpoint.pod, endpoint.pod_uid, None, ""
    )
    for arguments in (["logs", "pod"], ["exec", "pod", "--", "true"]):
        done = await world.kubectl(*arguments)
        assert done.code != 0
        assert f"cell cell-1 of pod {world.namespace}/pod is not connected" in done.err


async def test_a_finished_pods_logs_with_all_flags(world: World) -> None:
    await world.kept.keep(world.endpoint, world.pod)
    world.cell_goes()
    everything = "".join(f"line {i}\n" for i in range(5))
    for flags, expected in {
        (): everything,
        ("-f",): everything,
        ("-c", "main"): everything,
        ("--tail=2",): "line 3\nline 4\n",
        ("--tail=1", "--timestamps"): "2026-01-01T00:00:04.000000000Z line 4\n",
        ("--since-time=2026-01-01T00:00:03Z",): "line 3\nline 4\n",
        ("--since=1s",): "",
        ("--limit-bytes=8",): "line 0\nl",
    }.items():
        done = await world.kubectl("logs", "pod", *flags)
        assert (done.code, done.out) == (0, expected), (flags, done.err)
    previous = await world.kubectl("logs", "pod", "--previous")
    assert 'previous terminated container "main" in pod "pod" not found' in previous.err


async def test_keeping_again_and_sweeping(world: World) -> None:
    await world.kept.keep(world.endpoint, world.pod)
    await world.kept.keep(world.endpoint, world.pod)
    name = f"kip-logs-{world.pod['metadata']['uid']}"
    assert name in await world.admin("-n", "kip", "get", "secrets", "-o", "name")
    assert await world.kept.sweep(set()) == 0  # it is younger than five minutes
    await world.kept.delete(world.pod["metadata"]["uid"])
    assert name not in await world.admin("-n", "kip", "get", "secrets", "-o", "name")


@pytest.fixture
async def reader_token(world: World) -> AsyncIterator[str]:
    """Of a service account that may read nodes/metrics and nothing else."""
    role, account = f"reader-of-{world.namespace}", f"{world.namespace}:reader"
    await world.admin("-n", world.namespace, "create", "serviceaccount", "reader")
    await world.admin("create", "clusterrole", role, "--verb=get", "--resource=nodes/metrics")
    await world.admin(
        "create", "clusterrolebinding", role, f"--clusterrole={role}", f"--serviceaccount={account}"
    )
    user = f"--as=system:serviceaccount:{account}"
    await world.admin.eventually(
        "auth", "can-i", "get", "nodes", "--subresource=metrics", user, contains="yes"
    )
    yield (await world.admin("-n", world.namespace, "create", "token", "reader")).strip()
    await world.admin("delete", "clusterrolebinding,clusterrole", role)


async def test_who_has_no_certificate_is_asked_for_a_token_and_its_rights(
    world: World, reader_token: str
) -> None:
    context = ssl.create_default_context(cafile=str(world.control_plane.certificate_authority))

    async def get(path: str, token: str = "") -> tuple[int, str]:
        """Verifies the certificate and its address, as metrics-server may."""
        reader, writer = await asyncio.open_connection(world.address, world.server.port, ssl=context)
        field = f"Authorization: Bearer {token}\r\n" if token else ""
        writer.write(f"GET {path} HTTP/1.1\r\nHost: node\r\n{field}\r\n".encode())
        async with asyncio.timeout(20):
            answer = (await reader.read()).decode()
        writer.close()
        return int(answer.split()[1]), answer.partition("\r\n\r\n")[2]

    assert (await get("/metrics/resource"))[0] == 401
    assert (await get("/metrics/resource", "made.up.token"))[0] == 401
    status, text = await get("/metrics/resource", reader_token)
    assert status == 200
    assert "node_cpu_usage_seconds_total 1.5" in text
    for path in ("/stats/summary", "/pods", f"/containerLogs/{world.namespace}/pod/main"):
        status, text = await get(path, reader_token)
        assert status == 403
        assert f"user=system:serviceaccount:{world.namespace}:reader" in text


async def test_the_api_servers_node_proxy(world: World) -> None:
    raw = await world.admin("get", "--raw", f"/api/v1/nodes/{NODE}/proxy/metrics/resource")
    assert "node_cpu_usage_seconds_total 1.5" in raw
    raw = await world.admin("get", "--raw", f"/api/v1/nodes/{NODE}/proxy/logs/cells/cell-1?query=containerd")
    assert raw.startswith("cell-1: ")
    assert "-u containerd.service" in raw
