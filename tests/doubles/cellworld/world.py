"""A cluster, a cloud, and processes of the operator that come and go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from cellworld.outside import Outside
from cellworld.process import Crash, Process

from kip.cells.repository import CELLS_PATH
from kip.cells.settings import CellSettings
from kip.cloud.base import Instance
from kip.cloud.fake import FakeCloud
from kip.kube.client import ApiClient
from kip.kube.errors import NotFound
from kip.model.clock import ManualClock
from kip.model.names import GROUP

# Virtual seconds: longer than every deadline of a cell's life.
PATIENCE_S = 300.0
TICK_S = 0.25
# Real seconds that an answer from outside may take.
ANSWER_S = 60.0


class World:
    """Time passes only in `until` and `let_pass`, and while it does kubelets work and dead processes are replaced."""

    def __init__(
        self,
        api: ApiClient,
        clock: ManualClock,
        *,
        node: str,
        namespace: str,
        operator: ApiClient | None = None,
        real_tick_s: float = 0.0,
    ) -> None:
        """`operator` has the operator's own rights (`api` if not given). With `real_tick_s`, that much real time passes in
        each tick, for what is not in memory; and while a process waits for an answer no virtual time passes."""
        self.api = api
        self._operator = operator or api
        self.clock = clock
        self.node = node
        self.namespace = namespace
        self.cloud = FakeCloud(clock=clock)
        self.outside = Outside(self.cloud, api)
        self.settings = CellSettings(
            node,
            "test",
            connect_timeout_s=10,
            start_timeout_s=10,
            devices_timeout_s=20,
            retry_s=10,
            drain_timeout_s=10,
        )
        self.process: Process | None = None
        self.processes: list[Process] = []
        self._real_tick_s = real_tick_s

    def begin(self, crash: Crash | None = None) -> Process:
        """A new process."""
        self.process = Process(
            self.outside, self._operator, self.clock, node=self.node, settings=self.settings, crash=crash
        )
        self.processes.append(self.process)
        self.process.start()
        return self.process

    async def restart(self) -> Process:
        """The process is killed, another one begins."""
        if self.process is not None:
            await self.process.bury()
        return self.begin()

    async def let_pass(self, seconds: float) -> None:
        """Let time pass, with all that happens meanwhile."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            await self._tick()

    async def until(self, what: str, check: Callable[[], Any], *, seconds: float = PATIENCE_S) -> None:
        """Let time pass until `check` (or what it awaits) is true; fails with what there is instead."""
        end = self.clock.monotonic() + seconds
        while True:
            found = check()
            if await found if asyncio.iscoroutine(found) else found:
                return
            if self.clock.monotonic() >= end:
                raise AssertionError(f"not {what} within {seconds:g} s: {await self.told()}")
            await self._tick()

    async def _tick(self) -> None:
        process = self.process
        if process is not None and process.mortal.dead:
            await self.restart()
        elif process is not None and process.failure is not None:
            raise AssertionError("the process broke off") from process.failure
        if self._real_tick_s:
            await asyncio.sleep(self._real_tick_s)
            await self._answered()
        await self.clock.advance(TICK_S)
        await self.outside.turn()

    async def _answered(self) -> None:
        """Returns when the process waits for no answer from outside."""
        deadline = time.monotonic() + ANSWER_S
        while self.process is not None and self.process.mortal.waiting:
            if time.monotonic() > deadline:
                raise AssertionError(f"no answer within {ANSWER_S:g} s to {self.process.mortal.steps[-1:]}")
            await asyncio.sleep(self._real_tick_s / 10)

    # The cluster.

    async def pod(self, name: str, *, gpus: int = 0, **metadata: Any) -> dict[str, Any]:
        """A new pod, bound to the node."""
        limits = {"limits": {"nvidia.com/gpu": str(gpus)}} if gpus else {}
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, **metadata},
            "spec": {
                "nodeName": self.node,
                "terminationGracePeriodSeconds": 1,
                "containers": [
                    {
                        "name": "main",
                        "image": "registry.example/nothing:1",
                        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, **limits},
                    }
                ],
            },
        }
        made: dict[str, Any] = await self.api.create(f"/api/v1/namespaces/{self.namespace}/pods", body)
        return made

    async def delete(self, name: str, **options: Any) -> None:
        await self.api.delete(f"/api/v1/namespaces/{self.namespace}/pods/{name}", options or None)

    async def annotate(self, name: str, annotations: dict[str, str | None]) -> None:
        """Change annotations; None takes one away."""
        patch = {"metadata": {"annotations": annotations}}
        await self.api.patch(f"/api/v1/namespaces/{self.namespace}/pods/{name}", patch)

    async def instance_of(self, name: str) -> str:
        """Id of the pod's instance."""
        (cell,) = [c for c in await self.cells() if c["spec"]["podName"] == name]
        return str(cell["status"]["instanceID"])

    async def get(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = await self.api.get(f"/api/v1/namespaces/{self.namespace}/pods/{name}")
        except NotFound:
            return None
        return found

    async def phase(self, name: str) -> str | None:
        pod = await self.get(name)
        return pod["status"]["phase"] if pod else None

    async def cells(self) -> list[dict[str, Any]]:
        listed = await self.api.get(CELLS_PATH, labelSelector=f"{GROUP}/node={self.node}")
        return list(listed["items"])

    async def events(self, reason: str | None = None) -> list[dict[str, Any]]:
        listed = await self.api.get(f"/api/v1/namespaces/{self.namespace}/events")
        return [e for e in listed["items"] if reason in (None, e["reason"])]

    def live(self) -> list[Instance]:
        return [i for i in self.cloud.all() if not i.gone]

    # What must hold.

    async def running(self, *names: str) -> bool:
        return all([await self.phase(name) == "Running" for name in names])

    async def serving(self, *names: str) -> bool:
        """The pods run, and their Cells say so."""
        return await self.running(*names) and all(
            (cell.get("status") or {}).get("phase") == "Running" for cell in await self.cells()
        )

    async def empty(self) -> bool:
        """No Cell, no instance and no route to one is left."""
        return not self.live() and not self.cloud.routes.to_interfaces() and not await self.cells()

    async def routed(self, ranges: dict[str, str]) -> bool:
        """These ranges, and no others, lead to instances: each to that of this pod, which passes what comes by them."""
        instances = {
            c["spec"]["podName"]: (c.get("status") or {}).get("instanceID") for c in await self.cells()
        }
        wanted = {cidr: instances.get(pod) for cidr, pod in ranges.items()}
        found = {
            route.cidr: route.instance_id for table in self.cloud.routes.look(None) for route in table.routes
        }
        found = {cidr: instance_id for cidr, instance_id in found.items() if instance_id}
        return wanted == found and set(found.values()) <= self.cloud.routes.unchecked

    async def one_instance_each(self) -> bool:
        """Each live instance is claimed by exactly one Cell, and each Cell has one."""
        claimed = [(c.get("status") or {}).get("instanceID") for c in await self.cells()]
        return sorted(str(c) for c in claimed) == sorted(i.id for i in self.live())

    def assert_sound(self) -> None:
        assert not self.outside.violations, self.outside.violations

    async def told(self) -> str:
        """What there is, for people who wonder."""
        cells = [
            {
                "name": c["metadata"]["name"],
                **{k: (c.get("status") or {}).get(k) for k in ("phase", "instanceID")},
            }
            for c in await self.cells()
        ]
        pods = (await self.api.get(f"/api/v1/namespaces/{self.namespace}/pods"))["items"]
        told = [
            (p["metadata"]["name"], p["status"].get("phase"), p["status"].get("message", "")) for p in pods
        ]
        links = [repr(link) for link in self.process.links.all()] if self.process else []
        steps = self.process.mortal.steps[-12:] if self.process else []
        return (
            f"pods {told}; cells {cells}; instances {[(i.id, i.state) for i in self.cloud.all()]}; "
            f"links {links}; last calls {steps}; violations {self.outside.violations}"
        )


@asynccontextmanager
async def world_over(
    api: ApiClient, clock: ManualClock, *, node: str, namespace: str, **options: Any
) -> AsyncIterator[World]:
    """A world whose last process is stopped in the end."""
    world = World(api, clock, node=node, namespace=namespace, **options)
    try:
        yield world
    finally:
        if world.process is not None:
            await world.process.bury()
