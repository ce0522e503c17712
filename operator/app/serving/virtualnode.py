"""The Node object, and whether it is ready."""

from __future__ import annotations

from importlib.metadata import version

from kip.app.serving.ec2 import Ec2Side
from kip.app.serving.side import Loops
from kip.app.serving.state import NodeState
from kip.app.serving.surroundings import Surroundings
from kip.node.cloudhealth import CloudHealth
from kip.node.events import NodeEvents
from kip.node.keeper import NodeKeeper
from kip.node.object import Health, NodeOptions


class VirtualNode:
    """Keeps the Node object, and tells on it who serves it and when AWS comes and goes."""

    def __init__(self, around: Surroundings, state: NodeState, ec2: Ec2Side) -> None:
        self._around = around
        self._name = state.node_name
        self._background = state.background
        self._health = CloudHealth(ec2.network, around.clock, changed=self._health_changed)
        self.keeper = NodeKeeper(
            state.client, around.clock, _options(around, self._name), health=self._told_health
        )
        self._events = NodeEvents(state.events, lambda: self.keeper.node)

    def loops(self) -> Loops:
        return {"node": self.keeper.run(), "cloud health": self._health.run()}

    def tell_served(self) -> None:
        """Once the node is there and pods can come."""
        served_by = self._events.served_by(self._around.identity, version("kip-operator"))
        self._background.start(served_by)

    def _health_changed(self) -> None:
        self.keeper.poke()
        self._background.start(self._events.health_is(self._health.health))

    def _told_health(self) -> Health:
        """What the node says of itself, told to Prometheus as well."""
        health = self._health.health
        self._around.metrics.node_is(self._name, ready=health.ready)
        return health


def _options(around: Surroundings, node_name: str) -> NodeOptions:
    kubelet, cluster = around.settings.kubelet, around.cluster
    return NodeOptions(
        name=node_name,
        cluster=cluster.name,
        address=cluster.node_ip,
        kubelet_port=kubelet.port,
        capacity=kubelet.capacity,
        labels=kubelet.labels,
        kubelet_version=cluster.version,
    )
