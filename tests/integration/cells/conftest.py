"""The operator's parts over a real API server, with the rights that deploy/kustomize/base/rbac.yaml gives."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "doubles"))

from kip.cells.repository import CELLS_PATH
from kip.kube.client import ApiClient
from kip.kube.errors import NotFound
from kip.kube.waiting import when_available
from kip.kube.watch import list_all
from kip.model.clock import SystemClock
from kip.model.names import GROUP

NODE = "kip-provider-3"


@dataclass
class Cluster:
    """A namespace of its own, and the virtual node."""

    admin: ApiClient
    operator: ApiClient
    operator_kubeconfig: Path
    namespace: str

    @property
    def pods(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    async def pod(self, name: str, **metadata: Any) -> dict[str, Any]:
        body = {
            "metadata": {"name": name, **metadata},
            "spec": {
                "nodeName": NODE,
                "containers": [{"name": "main", "image": "registry.example/nothing:1"}],
            },
        }
        made: dict[str, Any] = await self.admin.create(self.pods, body)
        return made

    async def clean(self) -> None:
        """Remove every pod of the namespace and every Cell of the node."""
        for pod in (await list_all(self.admin, self.pods, {})).items:
            with suppress(NotFound):
                await self.admin.delete(f"{self.pods}/{pod['metadata']['name']}", {"gracePeriodSeconds": 0})
        for cell in (await list_all(self.admin, CELLS_PATH, {"labelSelector": f"{GROUP}/node={NODE}"})).items:
            path = f"{CELLS_PATH}/{cell['metadata']['name']}"
            with suppress(NotFound):
                await self.admin.patch(path, {"metadata": {"finalizers": []}})
                await self.admin.delete(path)


@pytest.fixture
async def cluster(control_plane: Any) -> AsyncIterator[Cluster]:
    admin = await ApiClient.connect(control_plane.kubeconfig)
    kubeconfig = control_plane.world.operator_kubeconfig
    operator = await ApiClient.connect(kubeconfig)
    namespace = f"cells-{uuid4().hex[:8]}"
    made = Cluster(admin, operator, kubeconfig, namespace)
    await admin.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
    await eventually(
        "a default service account",
        lambda: found(admin, f"/api/v1/namespaces/{namespace}/serviceaccounts/default"),
    )
    with suppress(NotFound):
        await admin.delete(f"/api/v1/nodes/{NODE}")
    await admin.create("/api/v1/nodes", {"metadata": {"name": NODE}})
    # Right after its definition was made, the API server answers 429 for cells.
    await when_available(made.clean, SystemClock(), what="cells")
    yield made
    await made.clean()
    with suppress(NotFound):
        await admin.delete(f"/api/v1/nodes/{NODE}")
    await admin.delete(f"/api/v1/namespaces/{namespace}")
    await operator.close()
    await admin.close()


async def found(client: ApiClient, path: str) -> dict[str, Any] | None:
    try:
        obj: dict[str, Any] = await client.get(path)
    except NotFound:
        return None
    return obj


async def eventually(
    what: str,
    ask: Callable[[], Awaitable[Any] | Any],
    *,
    timeout_s: float = 30,
    seen: Callable[[], Any] = str,
) -> Any:
    """What `ask` gives once it is true; fails with what was seen."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        answer = ask()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return answer
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}; seen: {seen()}")
        await asyncio.sleep(0.05)


@pytest.fixture
def until() -> Callable[..., Awaitable[Any]]:
    return eventually
