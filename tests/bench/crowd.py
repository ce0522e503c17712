"""A thousand pods at once, under EC2's documented throttles. Nothing is booted: instances stay pending."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import yaml
from tests.bench.lab import FOR_EVER_S, Lab

from kip.local import provider
from kip.local.addresses import free_ports
from kip.local.aws.throttle import REQUESTS
from kip.local.processes import Command, Processes
from kip.local.services import Operator
from kip.local.world import write_atomically

# A world's own network has room for a hundred cells. That of all these leads into the world's network namespace, where
# nobody answers, as on a machine that still boots: the operator dials them from the first moment on.
_VPC = "10.200.0.0/19"
_PATIENCE_S = 300.0


@dataclass(frozen=True)
class Crowd:
    """Seconds since the first of the pods was created."""

    pods: int
    created_s: float
    """Until the API server had taken the last one."""
    bound_s: float
    """Until the scheduler had bound the last one."""
    asked_s: float
    """Until the call was received that asked for the last instance."""
    calls: int
    """Of RunInstances, those that were refused included."""
    throttled: int
    """Of these, refused for their number or that of their instances."""

    @property
    def one_by_one_s(self) -> float:
        """How long as many calls for one instance each would take: by arithmetic, from the bucket's size and rate."""
        rate = REQUESTS["RunInstances"]
        return max(0.0, (self.pods - rate.burst) / rate.per_second)


async def measure(lab: Lab, *, pods: int) -> Crowd:
    """Creates them, and takes them away again."""
    async with _roomy(lab, pods):
        names = [f"crowd-{number}" for number in range(pods)]

        async def create(name: str) -> tuple[float, float]:
            return await lab.create(name), lab.now()

        times = await asyncio.gather(*map(create, names))
        began = min(sent for sent, _ in times)
        calls = await _all_asked_for(lab, pods)
        found = Crowd(
            pods=pods,
            created_s=max(answered for _, answered in times) - began,
            bound_s=max(lab.pods[name].bound or 0.0 for name in names) - began,
            asked_s=max(call["time"] for call in calls if not call["error"]) - began,
            calls=len(calls),
            throttled=sum(call["error"] == "RequestLimitExceeded" for call in calls),
        )
        await lab.delete(*names)
    return found


async def _all_asked_for(lab: Lab, pods: int) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []

    async def missing() -> str | None:
        nonlocal calls
        calls = await lab.calls("RunInstances")
        asked = sum(call["count"] for call in calls if not call["error"])
        return None if asked >= pods else f"{asked} of {pods} instances were asked for"

    await lab.until(missing, "RunInstances", _PATIENCE_S, look_s=0.25)
    return calls


@asynccontextmanager
async def _roomy(lab: Lab, pods: int) -> AsyncIterator[None]:
    """The operator works with an EC2 that has room for so many instances and throttles; afterwards as before."""
    world = lab.world
    port = free_ports({"aws": world.ports["aws"] + 50}, set(world.ports.values()))["aws"]
    host, _ = world.address("aws")
    url = f"http://{host}:{port}"
    argv = (sys.executable, "-m", "kip.local.aws", f"--host={host}", f"--port={port}", f"--cidr={_VPC}")
    _route(world.host_interface)
    Processes(world).start(Command("crowd-aws", argv))
    config = provider.settings(world)
    config["cloud"]["aws"]["endpointURL"] = url
    config["kubelet"]["capacity"] = {"cpu": str(pods), "memory": f"{pods}Gi", "pods": str(pods + 10)}
    before = world.provider_config.read_text()
    try:
        with lab.other_aws(url):
            await _answers(lab)
            await lab.settings(boot_delay_s=FOR_EVER_S, throttle=True)
            await _restart(lab, yaml.safe_dump(config))
            await lab.until(lambda: _offers(lab, pods), "the node's capacity")
            await lab.forget_calls()
            yield
    finally:
        await _restart(lab, before)
        Processes(world).stop("crowd-aws")


def _route(interface: str) -> None:
    """Goes with the interface, and that with the world."""
    subprocess.run(["ip", "route", "replace", _VPC, "dev", interface], check=True)


async def _answers(lab: Lab) -> None:
    async def missing() -> str | None:
        with suppress(OSError):
            await lab.calls("RunInstances")
            return None
        return "no answer"

    await lab.until(missing, "the other EC2 endpoint")


async def _offers(lab: Lab, pods: int) -> str | None:
    node = await lab.node()
    ready = {c["type"]: c["status"] for c in node["status"].get("conditions") or ()}.get("Ready")
    offered = int(node["status"]["allocatable"]["pods"])
    return None if offered >= pods and ready == "True" else f"it offers {offered} pods; Ready is {ready}"


async def _restart(lab: Lab, configuration: str) -> None:
    def restart() -> None:
        operator = Operator(lab.world)
        operator.processes.stop("operator")
        write_atomically(lab.world.provider_config, configuration)
        operator.start()
        operator.wait()

    await asyncio.to_thread(restart)
