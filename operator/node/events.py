"""What `kubectl describe node` tells of the virtual node: who serves it, and when AWS comes and goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from kip.kube.events import EventRecorder
from kip.node.object import Health


class NodeEvents:
    """Events on the Node object; none while there is no such object."""

    def __init__(self, events: EventRecorder, node: Callable[[], Mapping[str, Any] | None]) -> None:
        self._events = events
        self._node = node
        self._told_ready = True

    async def served_by(self, identity: str, version: str) -> None:
        """A process has begun to serve the node."""
        await self._tell("Normal", "NodeServed", f"{identity} serves this node with Kip {version}")

    async def health_is(self, health: Health) -> None:
        """Whether pods can be served: told when they cannot, and when they can again."""
        if health.ready and self._told_ready:
            return
        self._told_ready = health.ready
        await self._tell("Normal" if health.ready else "Warning", health.reason, health.message)

    async def _tell(self, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        node = self._node()
        if node is None:
            return
        await self._events.tell({"apiVersion": "v1", "kind": "Node", **node}, kind, reason, message)
