"""The world that is measured, and the ways to look at it: API server, EC2 endpoint, logs, the cells' journals."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import aiohttp

from kip.kube.client import ApiClient
from kip.kube.errors import Conflict, KubeError
from kip.kube.watch import Changed, Listed, follow
from kip.local import lifecycle
from kip.local.processes import Processes
from kip.local.progress import ConsoleProgress
from kip.local.world import World
from kip.model.clock import SystemClock

NAMESPACE = "bench"
IMAGE = "demo.kip.local/web:1"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"

#: A boot delay that no instance outlives.
FOR_EVER_S = 1e6
_PATIENCE_S = 120.0
# What a client of the API server does at a time; a thousand requests at once would wait for each other and time out.
_AT_ONCE = 16
_LOOK_S = 0.02


class NothingSeen(Exception):
    """What was waited for did not come; the text says what was seen instead."""


@dataclass
class Sighting:
    """When the API server first told of a pod's steps, in seconds since the epoch."""

    bound: float | None = None
    running: float | None = None
    ready: float | None = None
    uid: str = ""
    status: dict[str, Any] = field(default_factory=dict)

    def note(self, pod: dict[str, Any]) -> None:
        """Takes in one event of the watch."""
        now = time.time()
        self.uid, self.status = pod["metadata"]["uid"], pod.get("status") or {}
        if self.bound is None and (pod.get("spec") or {}).get("nodeName"):
            self.bound = now
        if self.running is None and self.status.get("phase") == "Running":
            self.running = now
        conditions = {c["type"]: c["status"] for c in self.status.get("conditions") or ()}
        if self.ready is None and conditions.get("Ready") == "True":
            self.ready = now


class Lab:
    """One world, made for the measurement and taken down after it."""

    def __init__(self, world: World, client: ApiClient, http: aiohttp.ClientSession) -> None:
        self.world = world
        self._client = client
        self._http = http
        self._aws = world.url("aws")
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self.pods: dict[str, Sighting] = {}
        self.images: dict[str, tuple[str, Sequence[str]]] = {}
        """Image and command of pods that shall have others than `IMAGE`, by the pod's name."""

    @staticmethod
    def now() -> float:
        """Seconds since the epoch, as all times here."""
        return time.time()

    # Pods.

    async def create(self, name: str) -> float:
        """Creates a pod that asks for what fits the smallest types; returns when the request was sent (epoch)."""
        async with self._slots:
            sent = time.time()
            await self._client.create(PODS, pod(name, *self.images.get(name, ())))
        return sent

    async def delete(self, *names: str) -> None:
        """Deletes the pods and returns when neither they nor any cell is there."""
        grace = {"gracePeriodSeconds": 1}

        async def delete(name: str) -> None:
            async with self._slots:
                await self._client.delete(f"{PODS}/{name}", grace)

        await asyncio.gather(*map(delete, names))
        # A look at a thousand cells takes time from those who end them.
        await self.until(self._no_cells, "all cells to go", look_s=_LOOK_S * max(1, len(names) // 20))
        for name in names:
            self.pods.pop(name, None)

    async def until_ready(self, *names: str) -> None:
        """Returns when these pods are Ready."""

        def missing() -> str | None:
            waiting = [n for n in names if n not in self.pods or self.pods[n].ready is None]
            return f"not Ready: {', '.join(waiting)}" if waiting else None

        await self.until(missing, "the pods to be Ready")

    async def until(
        self, missing: Callable[[], Any], what: str, seconds: float = _PATIENCE_S, look_s: float = _LOOK_S
    ) -> None:
        """Returns when `missing` (which may be a coroutine function) returns None. Raises NothingSeen.

        `look_s` between two looks: longer where a look itself takes time from what is measured.
        """
        deadline = time.monotonic() + seconds
        while True:
            seen = missing()
            if asyncio.iscoroutine(seen):
                seen = await seen
            if seen is None:
                return
            if time.monotonic() > deadline:
                raise NothingSeen(f"waited {seconds:g} s for {what}; {seen}")
            await asyncio.sleep(look_s)

    async def cells(self) -> dict[str, dict[str, Any]]:
        """The Cells by their pod's name."""
        found = (await self._client.get("/apis/kip.elotl.co/v1beta1/cells"))["items"]
        return {cell["spec"]["podName"]: cell for cell in found}

    async def _no_cells(self) -> str | None:
        left = await self.cells()
        shown = f"{', '.join([*left][:8])}{', …' if len(left) > 8 else ''}"
        return f"there still are {len(left)}: {shown}" if left else None

    async def watch_pods(self) -> None:
        """Notes what the API server tells of the pods; until cancelled."""
        async for event in follow(self._client, PODS, {}, SystemClock()):
            if isinstance(event, Listed):
                for found in event.items:
                    self.pods.setdefault(found["metadata"]["name"], Sighting()).note(found)
            elif isinstance(event, Changed) and event.type in ("ADDED", "MODIFIED"):
                self.pods.setdefault(event.object["metadata"]["name"], Sighting()).note(event.object)

    # EC2.

    async def calls(self, action: str) -> list[dict[str, Any]]:
        """The calls that the EC2 endpoint received, in the order of their answers; `time` is that of arrival."""
        url = f"{self._aws}/_kip/calls"
        async with self._http.get(url, params={"action": action}) as answer:
            found: list[dict[str, Any]] = (await answer.json())["calls"]
            return found

    async def forget_calls(self) -> None:
        """Begins counting anew."""
        async with self._http.delete(f"{self._aws}/_kip/calls") as answer:
            answer.raise_for_status()

    async def settings(self, **changes: Any) -> None:
        """Changes settings of the endpoint: kip.local.aws.control."""
        async with self._http.put(f"{self._aws}/_kip/settings", json=changes) as answer:
            answer.raise_for_status()

    async def boot_delay(self, seconds: float) -> None:
        """How long an instance is `pending`: without end, nothing is booted."""
        await self.settings(boot_delay_s=seconds)

    @contextmanager
    def other_aws(self, url: str) -> Iterator[None]:
        """The endpoint at that URL is the one that is looked at, until the block's end."""
        self._aws, before = url, self._aws
        try:
            yield
        finally:
            self._aws = before

    async def node(self) -> dict[str, Any]:
        """The virtual node."""
        found: dict[str, Any] = await self._client.get("/api/v1/nodes/kip-provider-0")
        return found

    # Logs.

    def operator_log(self) -> Iterator[tuple[float, dict[str, Any]]]:
        """The operator's log lines with their times (epoch)."""
        for line in (self.world.logs / "operator.log").read_text().splitlines():
            with suppress(ValueError, KeyError):
                entry = json.loads(line)
                yield datetime.fromisoformat(entry["time"]).timestamp(), entry

    def room_log(self) -> Iterator[tuple[float, str]]:
        """The machine room's log lines with their times (epoch)."""
        for line in (self.world.logs / "room.log").read_text().splitlines():
            with suppress(ValueError):
                yield datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").timestamp(), line[24:]

    async def journal(self, instance: str) -> list[tuple[float, str]]:
        """What systemd, containerd and kubelet of a cell told, with times (epoch)."""
        command = ["runc", "--root", str(self.world.runc_root), "exec", instance]
        command += ["journalctl", "--output=json", "--no-pager"]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
        entries = [json.loads(line) for line in done.stdout.splitlines()]
        return [(int(e["__REALTIME_TIMESTAMP"]) / 1e6, str(e.get("MESSAGE", ""))) for e in entries]

    def operator_pid(self) -> int:
        """The process id of the operator. Raises NothingSeen."""
        process = Processes(self.world).running("operator")
        if process is None:
            raise NothingSeen("the operator does not run")
        return process.pid


@asynccontextmanager
async def lab(name: str) -> AsyncIterator[Lab]:
    """A fresh world of that name, taken down at the end."""
    progress = ConsoleProgress()
    await asyncio.to_thread(lifecycle.down, name, progress)
    try:
        world = await asyncio.to_thread(lifecycle.up, name, progress)
        client = await ApiClient.connect(world.kubeconfig)
        try:
            async with aiohttp.ClientSession() as http:
                made = Lab(world, client, http)
                await _namespace(made, client)
                watching = asyncio.create_task(made.watch_pods())
                try:
                    yield made
                finally:
                    watching.cancel()
        finally:
            await client.close()
    finally:
        await asyncio.to_thread(lifecycle.down, name, progress)


async def _namespace(made: Lab, client: ApiClient) -> None:
    with suppress(Conflict):
        await client.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})

    async def missing() -> str | None:
        try:
            await client.get(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default")
            node = await client.get("/api/v1/nodes/kip-provider-0")
        except KubeError as error:
            return str(error)
        conditions = {c["type"]: c["status"] for c in node["status"].get("conditions") or ()}
        return None if conditions.get("Ready") == "True" else f"the node's conditions are {conditions}"

    await made.until(missing, "the node to be Ready")


def pod(name: str, image: str = IMAGE, command: Sequence[str] = ()) -> dict[str, Any]:
    """A pod for the virtual node, whose usual image is on every cell, Ready as soon as it runs."""
    return {
        "metadata": {"name": name},
        "spec": {
            "nodeSelector": {"type": "virtual-kubelet"},
            "tolerations": [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}],
            "containers": [
                {
                    "name": "web",
                    "image": image,
                    **({"command": [*command]} if command else {}),
                    "resources": {"requests": {"cpu": "250m", "memory": "128Mi"}},
                }
            ],
        },
    }
