"""The way to the cells, and the Kubernetes API that each of them sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from kip.app.counting import CountingHooks
from kip.app.serving.planning import Planning
from kip.app.serving.shared import ClusterObjects
from kip.app.serving.side import Closers, Loops
from kip.app.serving.state import NodeState
from kip.app.serving.surroundings import Surroundings
from kip.app.serving.virtualnode import VirtualNode
from kip.app.tunnels import SshTunnels
from kip.cellapi.identity import CellIdentity
from kip.cellapi.server import CellApi
from kip.cells.link import Session
from kip.cells.links import Links
from kip.model.cell import Cell
from kip.model.quantity import whole
from kip.tunnel.pool import TunnelPool

log = structlog.get_logger(__name__)


class Connections:
    """SSH to each cell, with its cell API at the other end of it."""

    def __init__(
        self,
        around: Surroundings,
        state: NodeState,
        shared: ClusterObjects,
        planning: Planning,
        node: VirtualNode,
    ) -> None:
        settings, clock = around.settings, around.clock
        self._state = state
        self._planning = planning
        self._rules = shared.rules
        self.pool = TunnelPool(on_lost=lambda cell, why: log.info("connection lost", cell=cell, reason=why))
        self.api = CellApi(
            upstream=state.client,
            pods=state.pods,
            services=shared.services,
            csidrivers=shared.csidrivers,
            runtimeclasses=shared.runtimeclasses,
            node=lambda: node.keeper.node,
            clock=clock,
            socket_dir=around.run_dir,
            impersonate=settings.cluster.impersonate_node,
            hooks=CountingHooks(around.metrics, self._pull_failed),
            lending=around.lending,
        )
        verity = settings.cells.image_cache.dm_verity == "auto"
        self.links = Links(
            SshTunnels(self.pool, around.keys.ssh_key, verity=verity),
            self._open_session,
            clock,
            socket_dir=around.run_dir,
            first_contact_key=around.keys.first_contact_public_key,
            rules=shared.rules,
            changed=state.queue.mark,
        )

    def loops(self) -> Loops:
        return {"cell API": self.api.run(), "services": self._rules.run(self.links.push_services)}

    def closers(self) -> Closers:
        return (self.links.close, self.pool.close, self.api.close)

    def _pull_failed(self, cell: CellIdentity, trouble: str) -> None:
        pod = self._state.pods.get(cell.pod_uid)
        if pod is not None:
            told = f"Kip has no login of its own to lend for the pod's images. {trouble}"
            self._state.background.start(self._state.events.tell(pod, "Warning", "NoRegistryLogin", told))

    async def _open_session(self, cell: Cell, pod: Mapping[str, Any], token: str) -> Session:
        planner, instance_type = self._planning.planner, cell.instance_type or ""
        capacity = planner.capacity(instance_type)
        identity = CellIdentity(
            cell_name=cell.name,
            cell_uid=cell.uid,
            node_name=self._state.node_name,
            namespace=cell.pod_namespace,
            pod_name=cell.pod_name,
            pod_uid=cell.pod_uid,
            cell_address=cell.address or "",
            capacity=capacity,
            labels=planner.labels(instance_type, zone=cell.zone or "", market=cell.market or ""),
        )
        advertised = whole(capacity.get("memory", "0"))

        def memory_seen(seen_bytes: int) -> None:
            self._planning.market.memory_seen(instance_type, seen_bytes, advertised_bytes=advertised)

        return await self.api.open(identity, token, pod_shown=cell.pod_may_run, memory_seen=memory_seen)
