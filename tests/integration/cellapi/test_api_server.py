"""The cell API in front of a real API server, with the permissions that a real cluster gives the operator."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import yaml

from kip.cellapi.identity import CellIdentity
from kip.cellapi.merge import strategic_merge
from kip.cellapi.pullsecret import NAME
from kip.cellapi.server import CellApi
from kip.cellapi.session import CellSession
from kip.cellapi.upstream import Upstream
from kip.images.lending import Lending
from kip.kube.client import STRATEGIC_MERGE_PATCH, ApiClient
from kip.kube.errors import KubeError, NotFound
from kip.kube.informer import Informer
from kip.model.clock import SystemClock
from kip.oci.credentials import Credential

pytestmark = pytest.mark.integration

NODE = "kip-provider-2"  # one that deploy/kustomize/base/rbac.yaml lets the operator act as
TOKEN = "root-only-token-of-the-cell"
MINE = {"fieldSelector": f"spec.nodeName={NODE}"}
CLOCK = SystemClock()
DEPLOY = Path(__file__).resolve().parents[3] / "deploy" / "kustomize" / "base"
ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
Connect = Callable[[Path], Any]


class Kubelet:
    """What a cell's kubelet does, a request at a time."""

    def __init__(self, session: CellSession) -> None:
        self.session = session
        self._http = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(session.socket_path), limit=0),
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=aiohttp.ClientTimeout(total=60),
        )

    async def ask(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json", **params: str
    ) -> tuple[int, Any]:
        headers = {"Content-Type": content_type} if body is not None else {}
        data = None if body is None else json.dumps(body)
        url = f"http://cell{path}"
        async with self._http.request(method, url, params=params, data=data, headers=headers) as response:
            return response.status, json.loads(await response.text())

    async def get(self, path: str, **params: str) -> tuple[int, Any]:
        return await self.ask("GET", path, **params)

    async def patch(self, path: str, body: Any) -> tuple[int, Any]:
        return await self.ask("PATCH", path, body, STRATEGIC_MERGE_PATCH)

    @asynccontextmanager
    async def watch(self, path: str, **params: str) -> AsyncIterator[Callable[[], Any]]:
        async with self._http.get(f"http://cell{path}", params={"watch": "true", **params}) as response:
            assert response.status == 200, await response.text()

            async def following() -> tuple[str, Any]:
                line = await asyncio.wait_for(response.content.readline(), 10)
                event = json.loads(line)
                return event["type"], event["object"]

            yield following

    async def close(self) -> None:
        await self._http.close()


@dataclass
class Cluster:
    """A namespace with what a pod needs, and the virtual node."""

    admin: ApiClient
    namespace: str
    node: dict[str, Any]

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}"

    async def pod(self, name: str, **spec: Any) -> dict[str, Any]:
        """Bound to the virtual node, with a secret `<name>-secret` in its environment."""
        secret = {"metadata": {"name": f"{name}-secret"}, "stringData": {"of": name}}
        await self.admin.create(f"{self.path}/secrets", secret)
        container = {
            "name": "main",
            "image": "registry.example/nothing:1",
            "envFrom": [{"secretRef": {"name": f"{name}-secret"}}],
        }
        body = {
            "metadata": {"name": name},
            "spec": {"nodeName": NODE, "containers": [container], **spec},
        }
        created: dict[str, Any] = await self.admin.create(f"{self.path}/pods", body)
        return created


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    clients = []

    async def connected(kubeconfig: Path) -> ApiClient:
        client = await ApiClient.connect(kubeconfig)
        clients.append(client)
        return client

    yield connected
    for client in clients:
        await client.close()


@pytest.fixture
async def cluster(control_plane: Any, connect: Connect) -> AsyncIterator[Cluster]:
    admin = await connect(control_plane.kubeconfig)
    namespace = f"cellapi-{uuid4().hex[:8]}"
    await admin.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
    await admin.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "seller"}})
    await eventually(lambda: admin.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/default"))
    await eventually(lambda: admin.get(f"/api/v1/namespaces/{namespace}/configmaps/kube-root-ca.crt"))
    labels = {"type": "virtual-kubelet", "kubernetes.io/hostname": NODE}
    node = await admin.create("/api/v1/nodes", {"metadata": {"name": NODE, "labels": labels}})
    yield Cluster(admin, namespace, node)
    await admin.delete(f"/api/v1/nodes/{NODE}")
    options = {"gracePeriodSeconds": 0}
    for pod in (await admin.get(f"/api/v1/namespaces/{namespace}/pods"))["items"]:
        await admin.delete(f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}", options)
    await admin.delete(f"/api/v1/namespaces/{namespace}")


async def eventually(ask: Callable[[], Any], timeout_s: float = 20) -> Any:
    """What `ask` gives once it is found; the last refusal if that does not happen in time."""
    deadline = CLOCK.monotonic() + timeout_s
    while True:
        try:
            return await ask()
        except NotFound:
            if CLOCK.monotonic() > deadline:
                raise
        await CLOCK.sleep(0.05)


class Ecr:
    """Kip's logins to ECR."""

    def are_for(self, host: str) -> bool:
        return host == ECR

    async def login(self, host: str) -> Credential | None:
        return Credential("AWS", "of-kips-role")


@dataclass
class World:
    """A cell API whose caches are filled by the operator's own rights."""

    api: CellApi
    pods: Informer
    cluster: Cluster
    kubelets: list[Kubelet]

    async def cell(self, pod: dict[str, Any], *, shown: bool = True) -> Kubelet:
        metadata = pod["metadata"]
        identity = CellIdentity(
            cell_name=f"cell-{metadata['name']}",
            cell_uid=metadata["uid"],
            node_name=NODE,
            namespace=metadata["namespace"],
            pod_name=metadata["name"],
            pod_uid=metadata["uid"],
            cell_address="10.0.0.7",
            capacity={"cpu": "2", "memory": "4Gi", "ephemeral-storage": "20Gi"},
        )
        await self.known(metadata["uid"])
        session = await self.api.open(identity, TOKEN)
        if shown:
            session.show_pod()
        self.kubelets.append(Kubelet(session))
        return self.kubelets[-1]

    async def known(self, uid: str) -> None:
        with self.pods.subscribe(uid) as changes:
            if self.pods.get(uid) is None:
                await asyncio.wait_for(changes.get(), 10)


@asynccontextmanager
async def serving(
    client: ApiClient, cluster: Cluster, directory: Path, *, impersonate: bool
) -> AsyncIterator[World]:
    pods = Informer(client, "/api/v1/pods", clock=CLOCK, params=MINE)
    services = Informer(client, "/api/v1/services", clock=CLOCK)
    csidrivers = Informer(client, "/apis/storage.k8s.io/v1/csidrivers", clock=CLOCK)
    runtimeclasses = Informer(client, "/apis/node.k8s.io/v1/runtimeclasses", clock=CLOCK)
    informers = [pods, services, csidrivers, runtimeclasses]
    running = [asyncio.create_task(informer.run()) for informer in informers]
    api = CellApi(
        upstream=client,
        pods=pods,
        services=services,
        csidrivers=csidrivers,
        runtimeclasses=runtimeclasses,
        node=lambda: cluster.node,
        clock=CLOCK,
        socket_dir=directory,
        impersonate=impersonate,
        lending=Lending(Ecr()),
    )
    running.append(asyncio.create_task(api.run()))
    world = World(api, pods, cluster, [])
    try:
        for informer in informers:
            await informer.wait_synced(20)
        yield world
    finally:
        for kubelet in world.kubelets:
            await kubelet.close()
        await api.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@pytest.fixture
async def world(
    control_plane: Any, cluster: Cluster, connect: Connect, tmp_path: Path
) -> AsyncIterator[World]:
    operator = await connect(control_plane.world.operator_kubeconfig)
    async with serving(operator, cluster, tmp_path / "s", impersonate=True) as world:
        yield world


async def test_a_cell_reads_what_its_pod_refers_to(world: World) -> None:
    cluster = world.cluster
    kubelet = await world.cell(await cluster.pod("web"))
    await cluster.pod("db")
    status, secret = await kubelet.get(f"{cluster.path}/secrets/web-secret")
    assert (status, base64.b64decode(secret["data"]["of"])) == (200, b"web")
    assert (await kubelet.get(f"{cluster.path}/configmaps/kube-root-ca.crt"))[0] == 200
    assert (await kubelet.get(f"{cluster.path}/secrets/db-secret"))[0] == 403
    assert (await kubelet.get(f"{cluster.path}/secrets"))[0] == 403
    assert (await kubelet.get(f"{cluster.path}/pods/db"))[0] == 403


async def test_the_api_server_holds_the_operator_to_the_nodes_pods(
    world: World, control_plane: Any, connect: Connect
) -> None:
    cluster = world.cluster
    await world.known((await cluster.pod("web"))["metadata"]["uid"])
    secret = {"metadata": {"name": "nobodys"}, "stringData": {"a": "b"}}
    await cluster.admin.create(f"{cluster.path}/secrets", secret)
    # Without our own rules in front: as the virtual node.
    upstream = Upstream(await connect(control_plane.world.operator_kubeconfig), impersonate=True)
    assert (await upstream.send(NODE, "GET", f"{cluster.path}/secrets/web-secret")).status == 200
    refused = await upstream.send(NODE, "GET", f"{cluster.path}/secrets/nobodys")
    assert refused.status == 403
    assert b"no relationship found" in refused.body


async def test_kips_login_is_there_for_the_cell_and_nowhere_in_the_cluster(world: World) -> None:
    cluster, path = world.cluster, f"{world.cluster.path}/secrets/{NAME}"
    pod = await cluster.pod("web", containers=[{"name": "main", "image": f"{ECR}/team/app:1"}])
    kubelet = await world.cell(pod)
    (listed,) = (await kubelet.get("/api/v1/pods", **MINE))[1]["items"]
    assert listed["spec"].pop("imagePullSecrets") == [{"name": NAME}]
    assert listed["spec"] == pod["spec"]
    status, secret = await kubelet.get(path)
    assert (status, secret["metadata"]["name"]) == (200, NAME)
    assert (
        "of-kips-role"
        in base64.b64decode(
            next(iter(json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))["auths"].values()))[
                "auth"
            ]
        ).decode()
    )

    with pytest.raises(NotFound):
        await cluster.admin.get(path)
    assert (await kubelet.ask("PUT", path, secret))[0] == 403
    elsewhere = await world.cell(await cluster.pod("db"))
    assert (await elsewhere.get(path))[0] == 404
    patch = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": {"message": "up"}}
    assert (await kubelet.patch(f"{cluster.path}/pods/web/status", patch))[0] == 200
    assert "imagePullSecrets" not in (await cluster.admin.get(f"{cluster.path}/pods/web"))["spec"]


@pytest.mark.parametrize(
    "variables",
    [
        {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": NAME, "key": ".dockerconfigjson"}}}]},
        {"envFrom": [{"secretRef": {"name": NAME}}]},
    ],
    ids=["env", "envFrom"],
)
async def test_the_logins_name_is_none_of_a_secret_nor_one_that_variables_may_have(
    world: World, variables: dict[str, Any]
) -> None:
    cluster = world.cluster
    with pytest.raises(KubeError, match="RFC 1123 subdomain"):
        await cluster.admin.create(f"{cluster.path}/secrets", {"metadata": {"name": NAME}})
    container = {"name": "main", "image": f"{ECR}/team/app:1"}
    with pytest.raises(KubeError, match="RFC 1123 subdomain"):
        await cluster.pod("spy", containers=[{**container, **variables}])
    await cluster.pod("web", containers=[container])
    debugger = {"name": "spy", "image": "a", "targetContainerName": "main", **variables}
    patch = {"spec": {"ephemeralContainers": [debugger]}}
    with pytest.raises(KubeError, match="RFC 1123 subdomain"):
        await cluster.admin.patch(
            f"{cluster.path}/pods/web/ephemeralcontainers", patch, content_type=STRATEGIC_MERGE_PATCH
        )


@pytest.mark.parametrize(
    "source", [{"secret": {"secretName": NAME}}, {"projected": {"sources": [{"secret": {"name": NAME}}]}}]
)
async def test_a_pod_with_a_volume_of_that_name_gets_no_login(world: World, source: dict[str, Any]) -> None:
    cluster = world.cluster
    containers = [{"name": "main", "image": f"{ECR}/team/app:1"}]
    kubelet = await world.cell(
        await cluster.pod("spy", containers=containers, volumes=[{"name": "v", **source}])
    )
    (listed,) = (await kubelet.get("/api/v1/pods", **MINE))[1]["items"]
    assert "imagePullSecrets" not in listed["spec"]
    assert (await kubelet.get(f"{cluster.path}/secrets/{NAME}"))[0] == 404


async def test_a_token_is_bound_to_the_pod(world: World) -> None:
    cluster = world.cluster
    projected = {"sources": [{"serviceAccountToken": {"path": "t", "audience": "sts.example"}}]}
    volumes = [{"name": "t", "projected": projected}]
    pod = await cluster.pod("web", serviceAccountName="seller", volumes=volumes)
    kubelet = await world.cell(pod)
    bound = {"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": pod["metadata"]["uid"]}
    spec = {"audiences": ["sts.example"], "expirationSeconds": 3607, "boundObjectRef": bound}
    path = f"{cluster.path}/serviceaccounts/seller/token"
    status, answer = await kubelet.ask("POST", path, {"spec": spec})
    assert status == 201
    payload = answer["status"]["token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["aud"] == ["sts.example"]
    assert claims["kubernetes.io"]["pod"]["uid"] == pod["metadata"]["uid"]
    assert claims["kubernetes.io"]["node"]["name"] == NODE

    # An audience that the pod does not ask for is the API server's to refuse.
    status, refused = await kubelet.ask("POST", path, {"spec": {**spec, "audiences": ["vault.example"]}})
    assert (status, refused["kind"]) == (403, "Status")
    other = f"{cluster.path}/serviceaccounts/default/token"
    assert (await kubelet.ask("POST", other, {"spec": spec}))[0] == 403


async def test_a_pods_life(world: World) -> None:
    cluster = world.cluster
    created = await cluster.pod("web", terminationGracePeriodSeconds=30)
    uid, path = created["metadata"]["uid"], f"{cluster.path}/pods/web"
    kubelet = await world.cell(created, shown=False)
    status, listed = await kubelet.get("/api/v1/pods", **MINE)
    assert (status, listed["items"]) == (200, [])
    version = listed["metadata"]["resourceVersion"]
    async with kubelet.watch("/api/v1/pods", **MINE, resourceVersion=version) as following:
        kubelet.session.show_pod()
        kind, pod = await following()
        assert (kind, pod["metadata"]["uid"]) == ("ADDED", uid)

        patch = {
            "metadata": {"uid": uid},
            "status": {
                "$setElementOrder/conditions": [{"type": "Initialized"}, {"type": "PodScheduled"}],
                "conditions": [{"type": "Initialized", "status": "True"}],
                "startTime": "2026-01-01T00:00:00Z",
                "hostIP": "10.0.0.7",
            },
        }
        status, patched = await kubelet.patch(f"{path}/status", patch)
        assert (status, patched["status"]["hostIP"]) == (200, "10.0.0.7")
        kind, pod = await following()
        assert (kind, pod["status"]) == ("MODIFIED", patched["status"])
        assert (await kubelet.get(path))[1]["status"] == patched["status"]

        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        assert (await kubelet.ask("DELETE", path, options))[0] == 403, "nobody has deleted it"
        await cluster.admin.delete(path)
        kind, pod = await following()
        assert (kind, pod["metadata"]["deletionGracePeriodSeconds"]) == ("MODIFIED", 30)
        assert (await kubelet.ask("DELETE", path, options))[0] == 200
        kind, pod = await following()
        if kind == "MODIFIED":  # The API server writes the grace period of 0 before it removes the pod.
            kind, pod = await following()
        assert (kind, pod["metadata"]["uid"]) == ("DELETED", uid)
    assert (await kubelet.get("/api/v1/pods", **MINE))[1]["items"] == []
    assert (await kubelet.get(path))[0] == 404


async def test_a_successor_of_the_same_name_is_not_the_cells(world: World) -> None:
    cluster = world.cluster
    first = await cluster.pod("web")
    kubelet = await world.cell(first)
    assert len((await kubelet.get("/api/v1/pods", **MINE))[1]["items"]) == 1
    await cluster.admin.delete(f"{cluster.path}/pods/web", {"gracePeriodSeconds": 0})
    await cluster.admin.delete(f"{cluster.path}/secrets/web-secret")
    second = await cluster.pod("web")
    await world.known(second["metadata"]["uid"])
    assert (await kubelet.get("/api/v1/pods", **MINE))[1]["items"] == []
    assert (await kubelet.get(f"{cluster.path}/pods/web"))[0] == 404
    assert (await kubelet.get(f"{cluster.path}/secrets/web-secret"))[0] == 403
    status, _ = await kubelet.patch(
        f"{cluster.path}/pods/web/status",
        {"metadata": {"uid": first["metadata"]["uid"]}, "status": {"phase": "Failed"}},
    )
    assert status in (409, 422), "the API server compares the UID"
    seen = await cluster.admin.get(f"{cluster.path}/pods/web")
    assert seen["status"]["phase"] == "Pending"


async def test_events_of_the_pod_arrive_and_those_of_the_node_do_not(world: World) -> None:
    cluster = world.cluster
    pod = await cluster.pod("web")
    kubelet = await world.cell(pod)
    about = {"kind": "Pod", "namespace": cluster.namespace, "name": "web", "uid": pod["metadata"]["uid"]}
    metadata = {"name": "web.18a0", "namespace": cluster.namespace}
    event = {"metadata": metadata, "involvedObject": about, "reason": "Pulled", "count": 1, "type": "Normal"}
    assert (await kubelet.ask("POST", f"{cluster.path}/events", event))[0] == 201
    assert (await kubelet.patch(f"{cluster.path}/events/web.18a0", {"count": 2}))[0] == 200
    assert (await cluster.admin.get(f"{cluster.path}/events/web.18a0"))["count"] == 2
    # A new session does not know the event any more; the kubelet creates it again.
    assert (await kubelet.ask("POST", f"{cluster.path}/events", {**event, "count": 3}))[0] == 201

    of_node = {
        "metadata": {"name": f"{NODE}.18a1", "namespace": "default"},
        "involvedObject": {"kind": "Node", "name": NODE, "uid": NODE},
        "reason": "Starting",
    }
    assert (await kubelet.ask("POST", "/api/v1/namespaces/default/events", of_node))[0] == 201
    with pytest.raises(NotFound):
        await cluster.admin.get(f"/api/v1/namespaces/default/events/{NODE}.18a1")


async def test_services_are_watched_from_the_shared_cache(world: World) -> None:
    cluster = world.cluster
    kubelet = await world.cell(await cluster.pod("web"))
    selector = {"fieldSelector": "spec.clusterIP!=None"}
    status, listed = await kubelet.get("/api/v1/services", **selector)
    assert (status, [item["metadata"]["name"] for item in listed["items"]]) == (200, ["kubernetes"])
    version = listed["metadata"]["resourceVersion"]
    async with kubelet.watch("/api/v1/services", **selector, resourceVersion=version) as following:
        service = {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
        created = await cluster.admin.create(f"{cluster.path}/services", service)
        kind, seen = await following()
        assert (kind, seen["spec"]["clusterIP"]) == ("ADDED", created["spec"]["clusterIP"])
        await cluster.admin.delete(f"{cluster.path}/services/web")
        assert (await following())[0] == "DELETED"


async def test_a_status_of_the_shadow_does_not_reach_the_real_node(world: World) -> None:
    cluster = world.cluster
    kubelet = await world.cell(await cluster.pod("web"))
    before = await cluster.admin.get(f"/api/v1/nodes/{NODE}")
    patch = {
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v9"}}
    }
    assert (await kubelet.patch(f"/api/v1/nodes/{NODE}/status", patch))[0] == 200
    shadow = (await kubelet.get(f"/api/v1/nodes/{NODE}"))[1]
    assert shadow["status"]["nodeInfo"]["kubeletVersion"] == "v9"
    after = await cluster.admin.get(f"/api/v1/nodes/{NODE}")
    assert after["status"] == before["status"]


async def test_without_impersonation_the_operators_own_rights_are_used(
    cluster: Cluster, control_plane: Any, connect: Connect, tmp_path: Path
) -> None:
    fallback = yaml.safe_load_all((DEPLOY / "rbac-fallback.yaml").read_text())
    role = next(each for each in fallback if each["kind"] == "ClusterRole")
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    await cluster.admin.create(f"{rbac}/clusterroles", role)
    names = ("kip-provider", role["metadata"]["name"])
    for name in names:
        binding = {
            "metadata": {"name": f"cellapi-{name}"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "User", "name": "kip-fallback", "apiGroup": "rbac.authorization.k8s.io"}],
        }
        await cluster.admin.create(f"{rbac}/clusterrolebindings", binding)
    client = await connect(control_plane.client_kubeconfig("kip-fallback"))
    try:
        async with serving(client, cluster, tmp_path / "s", impersonate=False) as world:
            await lives_without_impersonation(world)
    finally:
        for name in names:
            await cluster.admin.delete(f"{rbac}/clusterrolebindings/cellapi-{name}")
        await cluster.admin.delete(f"{rbac}/clusterroles/{role['metadata']['name']}")


async def lives_without_impersonation(world: World) -> None:
    cluster = world.cluster
    pod = await cluster.pod("web", serviceAccountName="seller")
    await cluster.pod("db")
    kubelet = await world.cell(pod)
    uid, path = pod["metadata"]["uid"], f"{cluster.path}/pods/web"
    bound = {"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": uid}
    token = {"spec": {"audiences": [], "expirationSeconds": 3607, "boundObjectRef": bound}}
    patch = {"metadata": {"uid": uid}, "status": {"phase": "Running"}}
    assert (await kubelet.get(f"{cluster.path}/secrets/web-secret"))[0] == 200
    assert (await kubelet.get(f"{cluster.path}/secrets/db-secret"))[0] == 403
    assert (await kubelet.ask("POST", f"{cluster.path}/serviceaccounts/seller/token", token))[0] == 201
    assert (await kubelet.get(path))[0] == 200
    assert (await kubelet.patch(f"{path}/status", patch))[0] == 200
    await cluster.admin.delete(path)
    options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
    assert (await kubelet.ask("DELETE", path, options))[0] == 200


async def test_an_operator_that_may_not_impersonate_is_unavailable(
    world: World, control_plane: Any, connect: Connect
) -> None:
    stranger = await connect(control_plane.client_kubeconfig("kip-stranger"))
    kubelet = await world.cell(await world.cluster.pod("web"))
    session = kubelet.session
    session.shared = replace(session.shared, upstream=Upstream(stranger, impersonate=True))
    status, answer = await kubelet.get(f"{world.cluster.path}/secrets/web-secret")
    assert (status, answer["reason"]) == (503, "ServiceUnavailable")


PATCHES: list[dict[str, Any]] = [
    {
        "status": {
            "$setElementOrder/conditions": [{"type": "MemoryPressure"}, {"type": "Ready"}],
            "conditions": [
                {"type": "MemoryPressure", "status": "False", "reason": "Enough"},
                {"type": "Ready", "status": "False", "reason": "NotYet", "message": "no CNI"},
            ],
            "addresses": [
                {"type": "InternalIP", "address": "10.0.0.7"},
                {"type": "Hostname", "address": "a"},
                {"$patch": "replace"},
            ],
            "allocatable": {"cpu": "2", "memory": "4Gi", "pods": "20"},
            "capacity": {"cpu": "2", "memory": "4Gi", "pods": "20"},
            "images": [{"names": ["a:1"], "sizeBytes": 1}],
            "volumesInUse": ["kubernetes.io/csi/x^1", "kubernetes.io/csi/x^2"],
        }
    },
    {
        "metadata": {
            "annotations": {"csi.volume.kubernetes.io/nodeid": "{}"},
            "labels": {"type": "x", "zone": "a"},
        },
        "status": {
            "$setElementOrder/conditions": [
                {"type": "DiskPressure"},
                {"type": "MemoryPressure"},
                {"type": "Ready"},
            ],
            "conditions": [
                {"type": "DiskPressure", "status": "False"},
                {"type": "Ready", "status": "True", "reason": "Ready", "message": None},
            ],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.8"}],
            "allocatable": {"cpu": "1930m", "example.com/gpu": "1"},
            "images": [{"names": ["b:1"], "sizeBytes": 2}],
            "volumesInUse": None,
        },
    },
    {
        "metadata": {"labels": {"zone": None}},
        "status": {
            "conditions": [{"type": "DiskPressure", "$patch": "delete"}],
            "addresses": [{"type": "Hostname", "address": "b"}, {"$patch": "replace"}],
            "allocatable": {"$patch": "replace", "cpu": "1", "memory": "1Gi", "pods": "1"},
            "nodeInfo": {"kubeletVersion": "v1.36.3"},
        },
    },
    {"status": {"$setElementOrder/conditions": [{"type": "Ready"}, {"type": "MemoryPressure"}]}},
    {"status": {"capacity": {"$retainKeys": ["cpu", "pods"], "cpu": "3"}}},
]


async def test_patches_are_merged_as_the_api_server_merges_them(cluster: Cluster) -> None:
    path = f"/api/v1/nodes/{NODE}"
    ours = await cluster.admin.get(path)
    for patch in PATCHES:
        theirs = await cluster.admin.patch(f"{path}/status", patch, content_type=STRATEGIC_MERGE_PATCH)
        ours = strategic_merge(ours, patch)
        assert compared(ours) == compared(theirs), patch


def compared(node: dict[str, Any]) -> dict[str, Any]:
    """Without what the API server adds to every object."""
    conditions = [
        {key: value for key, value in condition.items() if not key.endswith("Time")}
        for condition in node["status"].get("conditions", [])
    ]
    status = {**node["status"], "conditions": conditions}
    info = {key: value for key, value in status.pop("nodeInfo", {}).items() if value}
    daemons = status.pop("daemonEndpoints", {})
    labels, annotations = node["metadata"].get("labels"), dict(node["metadata"].get("annotations") or {})
    annotations.pop("node.alpha.kubernetes.io/ttl", None)  # the controller manager's, at some time of its own
    with suppress(KeyError):
        del status["phase"]
    return {"labels": labels, "annotations": annotations, "status": status, "info": info, "daemons": daemons}
