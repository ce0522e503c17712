"""The sides of a served node put together: in which order they begin, and how they are let go of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime

import structlog

from kip.app.serving import side, stages
from kip.app.serving.connections import Connections
from kip.app.serving.ec2 import Ec2Side
from kip.app.serving.kubeletapi import KubeletApi
from kip.app.serving.planning import Planning
from kip.app.serving.shared import ClusterObjects
from kip.app.serving.side import Loops
from kip.app.serving.state import NodeState
from kip.app.serving.surroundings import Surroundings
from kip.app.serving.virtualnode import VirtualNode
from kip.app.sightings import Observer
from kip.handlers.runner import Watches
from kip.kube.waiting import when_available
from kip.metering.keeper import Metering, Product
from kip.model.cell import Cell, Phase
from kip.observe.metrics import Snapshot

log = structlog.get_logger(__name__)


class NodeServing:
    """Serves one virtual node from `run` to `close`; `run` works until it is cancelled or something breaks."""

    def __init__(self, around: Surroundings, node_name: str, *, may_write: Callable[[], bool]) -> None:
        """`may_write` is false for ever once the node's Lease may have been lost (kip.kube.lease.LeaseHolder.grant)."""
        self._around = around
        state = self._state = NodeState(around, node_name, may_write)
        shared = self._shared = ClusterObjects(
            state.client, around.clock, around.settings.cells.default_annotations
        )
        ec2 = self._ec2 = Ec2Side(around, state)
        planning = self._planning = Planning(around, state, shared, ec2)
        self._node = VirtualNode(around, state, ec2)
        connections = self._connections = Connections(around, state, shared, planning, self._node)
        kubelet = self._kubelet = KubeletApi(around, state, connections)
        self._lifecycle = stages.lifecycle(
            around,
            state,
            shared,
            ec2=ec2,
            planning=planning,
            connections=connections,
            kubelet=kubelet,
        )
        self._observer = Observer(
            state.client,
            around.clock,
            node_name=node_name,
            pods=state.pods,
            cells=state.cells,
            keeper=self._node.keeper,
            mark=state.queue.mark,
            ended_pod_gone=kubelet.forget_logs,
        )
        self._watches = Watches(
            self._observer, node_name=node_name, login=around.login, on_restart=self._observer.poke
        )

    async def run(self) -> None:
        """Serve until cancelled. Raises KubeError, CloudError or OSError if serving cannot begin."""
        clock, state = self._around.clock, self._state
        async with asyncio.TaskGroup() as group:
            side.start(group, self._shared.loops())
            await when_available(self._node.keeper.start, clock, what="the virtual node")
            await self._shared.wait_synced()
            await self._kubelet.start()
            side.start(group, self._kubelet.loops())
            await when_available(self._observer.resync, clock, what="the node's pods and cells")
            self._node.tell_served()
            log.info("serving", node=state.node_name, pods=len(state.pods), cells=len(state.cells.all()))
            side.start(
                group,
                state.loops(),
                self._connections.loops(),
                {"work": state.queue.run(self._lifecycle.reconcile)},
                {"watches": self._watches.run(), "resync": self._observer.run()},
                self._node.loops(),
                self._ec2.loops(),
                self._planning.loops(),
                self._metering(),
            )

    async def close(self) -> None:
        """Let go of everything, within two and a half seconds whatever hangs; pods go on running. Raises nothing."""
        self._state.close()
        await asyncio.gather(
            side.close("connections to cells", self._connections.closers()),
            side.close("kubelet API", self._kubelet.closers()),
            side.close("calls to EC2", self._ec2.closers()),
        )

    def snapshot(self) -> Snapshot:
        """What there is now, for Prometheus."""
        state = self._state
        state.spending.settle()
        cells = state.cells.all()
        launched = [cell for cell in cells if cell.instance_id]
        return Snapshot(
            phases=tuple(cell.phase for cell in cells),
            oldest_s=_oldest_s(cells, self._around.clock.now()),
            instances=tuple((c.instance_type or "", c.zone or "", c.market or "") for c in launched),
            usd_per_hour=state.spending.usd_per_hour(),
            unpriced=sum(cell.price is None for cell in launched),
            aws_tokens=self._ec2.compute.tokens(),
            queue=state.queue.depth(),
            tunnels=self._connections.pool.states(),
        )

    def trouble(self) -> str | None:
        """Why this process cannot serve its node well just now; None if it can."""
        if self._node.keeper.last_error is not None:
            return f"the API server does not take the node's heartbeat: {self._node.keeper.last_error}"
        if self._watches.trouble is not None:
            return f"the watches of pods, cells and the node end by themselves: {self._watches.trouble}"
        return None if self._state.pods.synced else "the first lists are under way"

    def _metering(self) -> Loops:
        around, sold = self._around, self._around.settings.cloud.aws.marketplace
        if around.marketplace is None or sold.product_code is None:
            return {}
        metering = Metering(
            self._state.client,
            around.clock,
            around.marketplace,
            self._state.use,
            Product(sold.product_code, sold.dimension),
            namespace=around.settings.cluster.namespace,
            node=self._state.node_name,
            identity=around.identity,
            metrics=around.metrics.metering,
        )
        return {"metering": metering.run()}


def _oldest_s(cells: Iterable[Cell], now: datetime) -> dict[Phase, float]:
    """By phase, seconds since the last change of the cell of which that is longest."""
    oldest: dict[Phase, float] = {}
    for cell in cells:
        age_s = max(0.0, (now - cell.changed_at).total_seconds())
        oldest[cell.phase] = max(age_s, oldest.get(cell.phase, 0.0))
    return oldest
