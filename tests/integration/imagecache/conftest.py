"""Controllers of the image cache beside a registry and a real API server."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.doubles.registry import LocalRegistry, local_registry
from tests.integration.cells.conftest import NODE, Cluster, cluster, eventually
from tests.integration.imagecache.controllers import Running, configuration, start

from kip.images import format as layout
from kip.images.verify import Report, verify
from kip.images.volume import Volume
from kip.kube.watch import list_all
from kip.model.clock import SystemClock

__all__ = ["cluster"]


@dataclass
class World:
    """What a test has."""

    cluster: Cluster
    registry: LocalRegistry
    directory: Path
    work: Path
    started: list[Running] = field(default_factory=list)

    @property
    def volume(self) -> Volume:
        return Volume(self.directory, SystemClock())

    async def pod(self, name: str, image: str, *secrets: str, arch: str = "amd64") -> dict[str, Any]:
        """A pod on the virtual node that says which machine it wants."""
        spec = {
            "nodeName": NODE,
            "nodeSelector": {"kubernetes.io/arch": arch},
            "containers": [{"name": "main", "image": image}],
            "imagePullSecrets": [{"name": secret} for secret in secrets],
        }
        made: dict[str, Any] = await self.cluster.admin.create(
            self.cluster.pods, {"metadata": {"name": name}, "spec": spec}
        )
        return made

    async def secret(self, name: str, **logins: str) -> None:
        """A pull secret for these registries, each with `user:password`."""
        auths = {host: {"auth": base64.b64encode(text.encode()).decode()} for host, text in logins.items()}
        body = {
            "metadata": {"name": name},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": json.dumps({"auths": auths})},
        }
        await self.cluster.admin.create(f"/api/v1/namespaces/{self.cluster.namespace}/secrets", body)

    def start(self, **controller: Any) -> Running:
        """Starts a controller, with these settings of its own."""
        work = self.work / f"controller-{len(self.started)}"
        work.mkdir()
        config = configuration(self.registry.url, node=NODE, **controller)
        self.started.append(start(work, config, self.directory, self.cluster.operator_kubeconfig))
        return self.started[-1]

    async def cached(self, image: str, *, within_s: float = 30) -> None:
        """Waits until the image is on the volume."""
        await eventually(
            f"{image} is cached", lambda: self.volume.reference(image), timeout_s=within_s, seen=self.said
        )

    async def event(self, pod: str, reason: str, *, within_s: float = 30) -> str:
        """Waits for an event about the pod; its message."""

        async def look() -> str:
            path = f"/api/v1/namespaces/{self.cluster.namespace}/events"
            for event in (await list_all(self.cluster.admin, path, {})).items:
                if event["involvedObject"]["name"] == pod and event["reason"] == reason:
                    return str(event["message"])
            return ""

        message: str = await eventually(f"{reason} on {pod}", look, timeout_s=within_s, seen=self.said)
        return message

    async def verified(self) -> Report:
        """What a look at every byte says."""
        return await verify(self.volume, SystemClock())

    def temporary(self, by: Running | None = None) -> list[Path]:
        """Files in the making, or left in it; of one controller or of all."""
        names = f"{layout.TEMPORARY}*-{by.process.pid}-*" if by else f"{layout.TEMPORARY}*"
        return list(self.directory.rglob(names))

    def said(self) -> str:
        return "\n".join(running.said() for running in self.started)


@pytest.fixture
async def world(cluster: Cluster, tmp_path: Path) -> AsyncIterator[World]:
    directory = tmp_path / "volume"
    directory.mkdir()
    async with local_registry(tmp_path / "registry") as registry:
        made = World(cluster, registry, directory, tmp_path)
        yield made
        for running in made.started:
            with suppress(ProcessLookupError):
                running.kill()
        registry.held.set()


@pytest.fixture
def until() -> Callable[..., Any]:
    return eventually
