"""`kip image-cache run` as a process, with the rights of deploy/kustomize/base."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from kip.local.addresses import free_ports

ENDED_S = 10.0


@dataclass
class Running:
    """One controller."""

    process: subprocess.Popen[bytes]
    log: Path
    health: int

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    async def ended(self) -> int:
        """Its exit code after SIGTERM."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        while self.process.poll() is None:
            assert time.monotonic() - began < ENDED_S, f"still there: {self.said()}"
            await asyncio.sleep(0.02)
        return int(self.process.returncode)

    async def fetches(self) -> dict[str, int]:
        """How many images it has seen to, by what became of them; nothing if it does not answer."""
        _, text = await self.get("/metrics")
        found = re.findall(r'^kip_image_cache_fetches_total\{result="(\w+)"\} (\S+)', text, re.MULTILINE)
        return {result: int(float(number)) for result, number in found}

    async def get(self, path: str) -> tuple[int, str]:
        """Status and text; 0 if nobody answers."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as session,
                session.get(f"http://127.0.0.1:{self.health}{path}") as answer,
            ):
                return answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return 0, ""


def configuration(registry: str, *, node: str, **controller: Any) -> dict[str, Any]:
    """Of one that sees to this virtual node's pods and gets all images from this registry."""
    port = free_ports({"any": random.randrange(20_000, 32_000)}, used=())["any"]
    return {
        "cloud": {"aws": {"region": "us-east-1"}},
        "cells": {"imageCache": {"controller": {"minFreeSpace": "0", **controller}}},
        "kubelet": {"nodeName": node},
        "cluster": {"name": "image-cache-test", "namespace": "kip"},
        "registries": {"mirrors": {"*": [registry]}},
        "health": {"listenAddress": "127.0.0.1", "port": port},
        "log": {"format": "text"},
    }


def start(work: Path, config: Mapping[str, Any], volume: Path, kubeconfig: Path) -> Running:
    """Starts one; its files are in `work`."""
    path, log = work / "provider.yaml", work / "controller.log"
    path.write_text(yaml.safe_dump(dict(config)))
    command = [sys.executable, "-m", "kip", "image-cache", "run"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--config", str(path), "--volume", str(volume)],
            stdout=out,
            stderr=out,
            env={**os.environ, "KUBECONFIG": str(kubeconfig)},
        )
    return Running(process, log, config["health"]["port"])
