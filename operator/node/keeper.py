"""Keeps the virtual node alive in the cluster: object, Lease, status."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog

from kip.kube.client import STRATEGIC_MERGE_PATCH, ApiClient
from kip.kube.errors import Conflict, KubeError, NotFound
from kip.model.clock import Clock, to_rfc3339_micro
from kip.node import object as node_object
from kip.node.object import Health, NodeOptions

log = structlog.get_logger(__name__)

# As a kubelet: its Lease counts 40 s and is renewed every 10 s; the status is written when it changes, else every 5 minutes.
LEASE_DURATION_S = 40
RENEW_S = 10.0
REPORT_S = 300.0
_RETRY_S = 1.0
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


class NodeKeeper:
    """The only writer of the virtual node's Node object."""

    def __init__(
        self, client: ApiClient, clock: Clock, options: NodeOptions, *, health: Callable[[], Health]
    ) -> None:
        self._client = client
        self._clock = clock
        self._options = options
        self._health = health
        self._node: dict[str, Any] | None = None
        self._reported_at = float("-inf")
        self._wake = asyncio.Event()
        self.last_error: KubeError | None = None

    @property
    def node(self) -> Mapping[str, Any] | None:
        """The Node as it was last seen; None before the first contact."""
        return self._node

    @property
    def path(self) -> str:
        return f"/api/v1/nodes/{self._options.name}"

    def poke(self) -> None:
        """Something about the node changed (or it was deleted): look now."""
        self._wake.set()

    def seen(self, node: dict[str, Any] | None) -> None:
        """A watch has seen this version of the Node; None when it was deleted."""
        self._node = node
        if node is None:
            log.warning("the virtual node was deleted; it comes back", node=self._options.name)
            self.poke()

    async def start(self) -> None:
        """The first beat; raises KubeError."""
        await self.beat()

    async def run(self) -> None:
        """Beat for ever."""
        while True:
            # Before the beat: what changes while it is under way needs another one.
            self._wake.clear()
            try:
                await self.beat()
                self.last_error = None
            except KubeError as error:
                if str(error) != str(self.last_error):
                    log.warning("node heartbeat failed", error=str(error))
                self.last_error = error
            with suppress(TimeoutError):
                async with asyncio.timeout(RENEW_S if self.last_error is None else _RETRY_S):
                    await self._wake.wait()

    async def beat(self) -> None:
        """Bring object, status and Lease to what they should be; raises KubeError."""
        node = await self._ensure_node()
        await self._report(node)
        await self._renew(node)

    async def _ensure_node(self) -> dict[str, Any]:
        wanted = node_object.new_node(self._options)
        try:
            node = await self._client.get(self.path)
        except NotFound:
            with suppress(Conflict):
                self._node = await self._client.create("/api/v1/nodes", wanted)
                self._reported_at = float("-inf")
                log.info("node created", node=self._options.name)
                return self._node
            node = await self._client.get(self.path)
        patch = node_object.difference(node, wanted)
        if patch:
            node = await self._client.patch(self.path, patch, content_type=STRATEGIC_MERGE_PATCH)
        self._node = node
        return dict(node)

    async def _report(self, node: Mapping[str, Any]) -> None:
        before = node.get("status") or {}
        status = node_object.status(self._options, self._health(), now=self._clock.now(), before=before)
        due = self._clock.monotonic() - self._reported_at >= REPORT_S
        if not due and node_object.same_but_heartbeat(before, status):
            return
        patch = {"status": node_object.status_patch(before, status)}
        self._node = await self._client.patch(
            f"{self.path}/status", patch, content_type=STRATEGIC_MERGE_PATCH
        )
        self._reported_at = self._clock.monotonic()

    async def _renew(self, node: Mapping[str, Any]) -> None:
        name = self._options.name
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": LEASE_DURATION_S,
            "renewTime": to_rfc3339_micro(self._clock.now()),
        }
        owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"]}
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "ownerReferences": [owner]},
            "spec": spec,
        }
        try:
            await self._client.patch(
                f"{_LEASES}/{name}", {"metadata": {"ownerReferences": [owner]}, "spec": spec}
            )
        except NotFound:
            await self._client.create(_LEASES, lease)
