"""What kopf sees on a real API server arrives in the stores; what it misses is found."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from kip.app.process import _login
from kip.app.sightings import Observer
from kip.cells.repository import CELLS_PATH, Cells
from kip.handlers.runner import Watches
from kip.kube.errors import NotFound
from kip.kube.store import PodStore
from kip.model.clock import SystemClock
from kip.node.keeper import NodeKeeper
from kip.node.object import HEALTHY, NodeOptions

pytestmark = pytest.mark.integration

NODE = "kip-provider-3"


@dataclass
class Watching:
    """The watches of one process, and what they brought."""

    cluster: Any
    pods: PodStore = field(default_factory=PodStore)
    marked: list[str] = field(default_factory=list)
    tasks: list[asyncio.Task] = field(default_factory=list)

    def __post_init__(self) -> None:
        client, clock = self.cluster.operator, SystemClock()
        self.cells = Cells(client, NODE)
        options = NodeOptions(NODE, "test", "10.0.0.7", 10250, {"cpu": "4", "memory": "8Gi", "pods": "10"})
        self.keeper = NodeKeeper(client, clock, options, health=lambda: HEALTHY)
        self.observer = Observer(
            client,
            clock,
            node_name=NODE,
            pods=self.pods,
            cells=self.cells,
            keeper=self.keeper,
            mark=self.marked.append,
            ended_pod_gone=lambda uid: None,
        )

    def watch(self) -> asyncio.Task:
        watches = Watches(self.observer, node_name=NODE, login=lambda: _login(self.cluster.operator))
        return self.start(watches.run())

    def start(self, work: Any) -> asyncio.Task:
        self.tasks.append(asyncio.create_task(work))
        return self.tasks[-1]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()

    def names(self) -> set[str]:
        return {p["metadata"]["name"] for p in self.pods.items()}


@pytest.fixture
async def watching(cluster):
    made = Watching(cluster)
    yield made
    await made.stop()


async def test_pods_and_cells_are_seen_when_they_come_change_and_go(cluster, watching, until):
    before = await cluster.pod("before")
    watching.watch()
    await until("seen in the list", lambda: "before" in watching.names(), seen=watching.names)
    after = await cluster.pod("after")
    await until("seen in the watch", lambda: "after" in watching.names(), seen=watching.names)
    await cluster.admin.patch(f"{cluster.pods}/after/status", {"status": {"reason": "Changed"}})
    uid = after["metadata"]["uid"]
    await until("changed", lambda: watching.pods.get(uid)["status"].get("reason") == "Changed")
    cell = await watching.cells.create(before)
    await cluster.admin.delete(f"{CELLS_PATH}/{cell.name}")
    await until("cell marked", lambda: watching.cells.get(cell.pod_uid).deleting)
    await watching.cells.release(watching.cells.get(cell.pod_uid))
    await cluster.admin.delete(f"{cluster.pods}/after", {"gracePeriodSeconds": 0})
    await until("gone", lambda: watching.names() == {"before"}, seen=watching.names)
    assert {before["metadata"]["uid"], uid} <= set(watching.marked)


async def test_other_nodes_pods_are_not_even_sent(cluster, watching, until):
    watching.watch()
    body = {
        "metadata": {"name": "elsewhere"},
        "spec": {"nodeName": "another-node", "containers": [{"name": "main", "image": "r.example/n:1"}]},
    }
    await cluster.admin.create(cluster.pods, body)
    await cluster.pod("here")
    await until("here", lambda: "here" in watching.names())
    assert watching.names() == {"here"}


async def test_kopf_writes_nothing_to_what_it_watches(cluster, watching, until):
    pod = await cluster.pod("web")
    watching.watch()
    await until("seen", lambda: watching.names() == {"web"})
    await asyncio.sleep(1)
    now = await cluster.admin.get(f"{cluster.pods}/web")
    assert now["metadata"].get("annotations") == pod["metadata"].get("annotations")
    assert "finalizers" not in now["metadata"]
    assert now["metadata"]["resourceVersion"] == pod["metadata"]["resourceVersion"]


async def test_a_deletion_while_nobody_watched_is_found_by_a_list(cluster, watching, until):
    """As after a watch that ended with 410: kopf's next list simply does not have the pod."""
    await cluster.pod("stays")
    goes = await cluster.pod("goes")
    watching.watch()
    await until("both", lambda: watching.names() == {"stays", "goes"}, seen=watching.names)
    await watching.stop()
    await cluster.admin.delete(f"{cluster.pods}/goes", {"gracePeriodSeconds": 0})
    watching.watch()
    later = await cluster.pod("later")
    await until("watching again", lambda: later["metadata"]["uid"] in watching.marked)
    assert "goes" in watching.names(), "kopf says nothing of it"
    await watching.observer.resync()
    assert watching.names() == {"stays", "later"}
    assert watching.pods.get(goes["metadata"]["uid"]) is None


async def test_a_node_that_somebody_deletes_comes_back_within_seconds(cluster, watching, until):
    await watching.keeper.start()
    watching.watch()
    watching.start(watching.keeper.run())
    before = (await cluster.admin.get(f"/api/v1/nodes/{NODE}"))["metadata"]["uid"]
    await until("node seen", lambda: watching.keeper.node is not None)
    await asyncio.sleep(1)
    await cluster.admin.delete(f"/api/v1/nodes/{NODE}")

    async def back() -> bool:
        try:
            node = await cluster.admin.get(f"/api/v1/nodes/{NODE}")
            lease = await cluster.admin.get(
                f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{NODE}"
            )
        except NotFound:
            return False
        uid = node["metadata"]["uid"]
        ready = any(
            c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", ())
        )
        owners = [o["uid"] for o in lease["metadata"].get("ownerReferences") or ()]
        return uid != before and ready and owners == [uid]

    await until("node, status and lease are back", back, timeout_s=8)


async def test_the_nodes_object_is_as_a_kubelet_would_have_it(cluster, watching, until):
    await watching.keeper.start()
    node = await cluster.admin.get(f"/api/v1/nodes/{NODE}")
    assert node["spec"]["providerID"] == f"kip://test/{NODE}"
    assert {"key": "virtual-kubelet.io/provider", "value": "kip", "effect": "NoSchedule"} in node["spec"][
        "taints"
    ]
    assert node["status"]["addresses"] == [{"type": "InternalIP", "address": "10.0.0.7"}]
    assert node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] == 10250
    assert {c["type"]: c["status"] for c in node["status"]["conditions"]}["Ready"] == "True"

    async def version() -> str:
        return (await cluster.admin.get(f"/api/v1/nodes/{NODE}"))["metadata"]["resourceVersion"]

    async def unchanged_by_a_beat() -> bool:
        before = await version()
        await watching.keeper.beat()
        return await version() == before

    # The controllers write to a node that is new to them, too.
    await until("a beat is a lease, not a status", unchanged_by_a_beat)
