"""What an uninstallation begins with, while Kip still runs: its nodes are emptied, then its processes are stopped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from kip.cleanup.look import Places, cells_of, pods_on
from kip.cleanup.plan import in_use, pod_name
from kip.kube.errors import NotFound, Unavailable

_LOOK_AGAIN_S = 2.0


class NotEnded(Exception):
    """It was not done in time; the text says what is left."""


class Ending:
    """Both within `timeout_s` seconds, each; `tell` gets a line for each thing that has happened."""

    def __init__(self, places: Places, *, tell: Callable[[str], None], timeout_s: float) -> None:
        self._places = places
        self._tell = tell
        self._timeout_s = timeout_s

    async def drain(self, nodes: Collection[str]) -> None:
        """Closes the virtual nodes, evicts their pods, and waits until the pods and their machines have ended.

        Evictions keep to the pods' disruption budgets. Raises NotEnded, KubeError.
        """
        for node in sorted(nodes):
            # Or whoever owns the pods would make them again, on the same node.
            await self._places.api.patch(f"/api/v1/nodes/{node}", {"spec": {"unschedulable": True}})
        self._tell(f"closed to new pods: {', '.join(sorted(nodes))}")
        await self._until("the pods and their machines have not ended", lambda: self._evict(nodes))

    async def stop(self, namespace: str, deployment: str) -> None:
        """Scales Kip's Deployment to nothing and waits for the end of its processes. Raises NotEnded, KubeError."""
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}"
        try:
            await self._places.api.patch(f"{path}/scale", {"spec": {"replicas": 0}})
        except NotFound:
            return
        self._tell(f"stopping Deployment {namespace}/{deployment}")
        await self._until("Kip's processes have not ended", lambda: self._running(path))

    async def _evict(self, nodes: Collection[str]) -> list[str]:
        """What is still there; pods that were not told to go are."""
        left: list[str] = []
        for node in sorted(nodes):
            for pod in filter(in_use, await pods_on(self._places.api, node)):
                held = "" if pod["metadata"].get("deletionTimestamp") else await self._evict_one(pod)
                left.append(f"pod {pod_name(pod)}{held}")
            left += [f"cell {cell['metadata']['name']}" for cell in await cells_of(self._places.api, node)]
        return left

    async def _evict_one(self, pod: Mapping[str, Any]) -> str:
        """Why it was not, for the list."""
        metadata = pod["metadata"]
        names = {"name": metadata["name"], "namespace": metadata["namespace"]}
        path = f"/api/v1/namespaces/{names['namespace']}/pods/{names['name']}/eviction"
        try:
            await self._places.api.create(
                path, {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": names}
            )
        except NotFound:
            return ""
        except Unavailable as error:  # also 429: a disruption budget
            return f" ({error})"
        self._tell(f"evicted {pod_name(pod)}")
        return ""

    async def _running(self, path: str) -> list[str]:
        number = (await self._places.api.get(path)).get("status", {}).get("replicas", 0)
        return [f"{number} of them"] if number else []

    async def _until(self, what: str, look: Callable[[], Awaitable[list[str]]]) -> None:
        clock = self._places.clock
        until = clock.monotonic() + self._timeout_s
        while left := await look():
            if clock.monotonic() >= until:
                raise NotEnded(f"{what} within {self._timeout_s:g} s; left: {', '.join(left)}")
            await clock.sleep(_LOOK_AGAIN_S)
