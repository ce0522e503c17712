"""`kip run` as a process, on a real API server and an AWS whose machines nobody boots: beginning, taking over, ending."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from kip.kube.errors import NotFound
from kip.local.addresses import free_ports

pytestmark = pytest.mark.integration

NODE = "kip-provider-3"
NODE_PATH = f"/api/v1/nodes/{NODE}"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/kip/leases/{NODE}"
# Seconds from SIGTERM to the end of the process; usually one.
ENDED_S = 10.0
# Seconds from the end of a process that gave its Lease up to the next holder, who asks each second; to run out takes ten.
HANDED_OVER_S = 8.0


@pytest.fixture(scope="module")
def aws() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "kip.local.aws", "--port", "0", "--cidr", "10.99.0.0/20"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        process.url = process.stdout.readline().split()[-1]  # type: ignore[attr-defined]
        yield process
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """Below those that the kernel gives to outgoing connections: none may take it before its owner listens."""
    return free_ports({"any": random.randrange(20_000, 32_000)}, used=())["any"]


@dataclass
class Operator:
    """One `kip run`."""

    process: subprocess.Popen[bytes]
    log: Path
    health: int

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    async def probe(self, path: str) -> int:
        """The status there; 0 if nobody answers."""
        try:
            timeout = aiohttp.ClientTimeout(total=3)
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"http://127.0.0.1:{self.health}{path}") as answer,
            ):
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            return 0

    async def ended(self, *, within_s: float = ENDED_S) -> int:
        """Its exit code after SIGTERM, which must be enough; fails when it takes longer."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        while self.process.poll() is None:
            assert time.monotonic() - began < within_s, f"still there: {self.said()[-3000:]}"
            await asyncio.sleep(0.02)
        return int(self.process.returncode)


@pytest.fixture
async def run(cluster: Any, aws: Any, tmp_path: Path) -> AsyncIterator[Callable[..., Operator]]:
    with suppress(NotFound):
        await cluster.admin.delete(NODE_PATH)
    with suppress(NotFound):
        await cluster.admin.delete(LEASE)
    started: list[Operator] = []

    def start(*, kubeconfig: Path | None = None, endpoint: str | None = None, **cells: Any) -> Operator:
        health = free_port()
        config = {
            "cloud": {
                "aws": {
                    "region": "us-east-1",
                    "vpcID": "default",
                    "endpointURL": endpoint or aws.url,
                    "accessKeyID": "test",
                    "secretAccessKey": "test",
                }
            },
            "cells": {"defaultInstanceType": "t3.small", **cells},
            "kubelet": {
                "nodeName": NODE,
                "nodeIP": "127.0.0.1",
                "listenAddress": "127.0.0.1",
                "port": free_port(),
            },
            "cluster": {"name": "process-test", "namespace": "kip", "dns": ["10.96.0.10"]},
            "health": {"listenAddress": "127.0.0.1", "port": health},
            "log": {"format": "text"},
        }
        number = len(started)
        path, log = tmp_path / f"provider-{number}.yaml", tmp_path / f"operator-{number}.log"
        path.write_text(yaml.safe_dump(config))
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig or cluster.operator_kubeconfig)}
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "kip", "run", "--config", str(path)],
                stdout=out,
                stderr=out,
                env=environment,
            )
        started.append(Operator(process, log, health))
        return started[-1]

    yield start
    for operator in started:
        operator.process.kill()
        operator.process.wait()


async def ready(cluster: Any) -> bool:
    try:
        node = await cluster.admin.get(NODE_PATH)
    except NotFound:
        return False
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", ()))


async def holder(cluster: Any) -> str:
    try:
        return str((await cluster.admin.get(LEASE))["spec"].get("holderIdentity") or "")
    except NotFound:
        return ""


async def serving(cluster: Any, run: Any, until: Any, **options: Any) -> Operator:
    operator = run(**options)
    await until("node ready", lambda: ready(cluster), timeout_s=60, seen=operator.said)

    async def answers() -> bool:
        return await operator.probe("/readyz") == 200

    await until("ready itself", answers, timeout_s=60, seen=operator.said)
    return operator


async def test_it_serves_and_ends_at_once_when_asked(cluster, run, until):
    operator = await serving(cluster, run, until)
    assert await operator.probe("/healthz") == 200
    assert await holder(cluster) != ""
    assert await operator.ended() == 0, operator.said()
    assert await holder(cluster) == "", "the Lease was given up"
    assert await ready(cluster), "the node stays as it is: a spare takes it in a second"
    assert "Traceback" not in operator.said()
    assert "cut off" not in operator.said()


async def test_it_ends_at_once_while_it_dials_machines_that_do_not_answer(cluster, run, until):
    operator = await serving(cluster, run, until)
    for number in range(10):
        await cluster.pod(f"web-{number}")

    async def launched() -> bool:
        events = await cluster.admin.get(f"/api/v1/namespaces/{cluster.namespace}/events")
        return sum(e["reason"] == "CellLaunched" for e in events["items"]) == 10

    await until("ten machines launched", launched, timeout_s=60, seen=operator.said)
    assert await operator.ended() == 0, operator.said()
    assert "Traceback" not in operator.said()


async def test_a_spare_takes_over_at_once_when_the_holder_ends(cluster, run, until):
    first = await serving(cluster, run, until)
    second = run()

    async def spare_is_ready() -> bool:
        return await second.probe("/readyz") == 200

    await until("the spare is ready", spare_is_ready, timeout_s=60, seen=second.said)
    before = await holder(cluster)
    assert await first.ended() == 0

    async def taken() -> bool:
        return await holder(cluster) not in ("", before)

    await until("taken over", taken, timeout_s=HANDED_OVER_S, seen=second.said)
    assert await ready(cluster)
    assert await second.ended() == 0


async def test_a_holder_that_was_paused_finds_itself_replaced_and_lets_go(cluster, run, until):
    first = await serving(cluster, run, until)
    second = run()
    before = await holder(cluster)
    await asyncio.sleep(2)
    first.process.send_signal(signal.SIGSTOP)
    try:

        async def taken() -> bool:
            return await holder(cluster) not in ("", before)

        await until("taken over", taken, timeout_s=40, seen=second.said)
    finally:
        first.process.send_signal(signal.SIGCONT)
    await until("the first notices", lambda: "lease is lost" in first.said(), timeout_s=20, seen=first.said)
    now = await holder(cluster)
    await asyncio.sleep(3)
    assert await holder(cluster) == now
    assert await ready(cluster)
    assert await first.ended() == 0, first.said()
    assert await second.ended() == 0, second.said()


async def test_it_waits_for_an_api_server_and_can_be_ended_meanwhile(cluster, run, until, tmp_path):
    config = yaml.safe_load(cluster.operator_kubeconfig.read_text())
    for one in config["clusters"]:
        one["cluster"]["server"] = f"https://127.0.0.1:{free_port()}"
    nowhere = tmp_path / "nowhere.kubeconfig"
    nowhere.write_text(yaml.safe_dump(config))
    operator = run(kubeconfig=nowhere)
    await until("waiting", lambda: "waiting for the API server" in operator.said(), seen=operator.said)
    assert operator.process.poll() is None
    assert await operator.ended() == 0, operator.said()


async def test_a_node_without_aws_says_so(cluster, run, until):
    operator = run(endpoint=f"http://127.0.0.1:{free_port()}")

    async def told() -> bool:
        try:
            node = await cluster.admin.get(NODE_PATH)
        except NotFound:
            return False
        conditions = {c["type"]: c for c in node["status"].get("conditions", ())}
        found = conditions.get("Ready", {})
        return found.get("status") == "False" and found.get("reason") == "CloudUnreachable"

    await until("not ready, with the reason", told, timeout_s=60, seen=operator.said)
    await cluster.pod("web")

    async def pending_with_reason() -> bool:
        pod = await cluster.admin.get(f"{cluster.pods}/web")
        return bool(pod["status"].get("reason") == "CloudUnreachable")

    await until("the pod says why", pending_with_reason, timeout_s=60, seen=operator.said)
    assert await operator.ended() == 0, operator.said()
