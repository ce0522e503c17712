"""All of it put together, as `kip image-cache run` does: with a real registry and volume, and an API server in memory."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.doubles.registry import LocalRegistry, layer

from kip.cells.repository import CELLS_PATH
from kip.config import EcrLogins, ImageCacheController, Settings
from kip.imagecache import process
from kip.images.volume import Volume
from kip.kube.client import ApiClient
from kip.kube.fake import FakeApi
from kip.local.addresses import free_ports
from kip.model.clock import SystemClock

APP = "quay.io/team/app:1"


class Running:
    """A controller at work, and the cluster it sees."""

    def __init__(self, api: FakeApi, health: int, volume: Volume) -> None:
        self.api, self.health, self.volume = api, health, volume

    async def pod(self, name: str, image: str, **spec: Any) -> dict[str, Any]:
        body = {
            "metadata": {"name": name},
            "spec": {"nodeName": "kip-provider-0", "containers": [{"image": image}], **spec},
        }
        made: dict[str, Any] = await self.api.create("/api/v1/namespaces/shop/pods", body)
        return made

    async def cell(self, pod: dict[str, Any], kind: str) -> None:
        uid = pod["metadata"]["uid"]
        await self.api.create(CELLS_PATH, {"metadata": {"name": f"kip-{uid}"}, "spec": {"podUID": uid}})
        await self.api.patch(f"{CELLS_PATH}/kip-{uid}/status", {"status": {"instanceType": kind}})

    async def until(self, what: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        async with asyncio.timeout(30):
            while not (answer := await ask()):
                await asyncio.sleep(0.02)
        return answer

    async def event(self, reason: str) -> dict[str, Any]:
        async def look() -> Any:
            return next((event for event in self.api.all("events") if event["reason"] == reason), None)

        found: dict[str, Any] = await self.until(reason, look)
        return found

    async def get(self, path: str) -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.health}{path}") as answer,
        ):
            return answer.status, await answer.text()


Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start(
    registry: LocalRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Start]:
    tasks: list[asyncio.Task[None]] = []
    api = FakeApi()

    async def connect(_kubeconfig: Path | None = None) -> ApiClient:
        return api

    monkeypatch.setattr(process.ApiClient, "connect", connect)

    async def begin(ecr_logins: EcrLogins | None = None, **options: Any) -> Running:
        health = free_ports({"any": 21_000 + len(tasks)}, used=())["any"]
        directory = tmp_path / "cache"
        directory.mkdir(exist_ok=True)
        settings = Settings()
        controller = ImageCacheController(min_free_space=0).model_copy(
            update={"min_free_space": 0, **options}
        )
        cells = settings.cells.model_copy(
            update={"image_cache": settings.cells.image_cache.model_copy(update={"controller": controller})}
        )
        settings = settings.model_copy(
            update={
                "cells": cells,
                "registries": settings.registries.model_copy(
                    update={"mirrors": {"*": (registry.url,)}, "ecr_logins": ecr_logins or EcrLogins()}
                ),
                "health": settings.health.model_copy(update={"listen_address": "127.0.0.1", "port": health}),
            }
        )
        tasks.append(asyncio.create_task(process._run(settings, directory, None)))
        return Running(api, health, Volume(directory, SystemClock()))

    yield begin
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results), results


async def test_from_a_pod_to_its_image_on_the_volume(registry: LocalRegistry, start: Start) -> None:
    registry.image(APP, layer(a=b"1"), architecture="arm64")
    registry.accounts(**{"quay.io/team": {"username": "ann", "password": "secret"}})
    login = json.dumps({"auths": {"quay.io": {"username": "ann", "password": "secret"}}})
    secret = {
        "metadata": {"name": "pull"},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(login.encode()).decode()},
    }
    running = await start()
    await running.api.create("/api/v1/namespaces/shop/secrets", secret)
    pod = await running.pod("web", APP, imagePullSecrets=[{"name": "pull"}])
    await running.cell(pod, "m7g.large")
    event = await running.event("ImageCached")
    assert event["involvedObject"]["name"] == "web"
    entry = await running.volume.reference(APP)
    assert entry is not None
    assert list(entry.platforms) == ["linux/arm64"]
    status, text = await running.get("/readyz")
    assert (status, "[+]volume ok" in text, "[+]cluster ok" in text) == (200, True, True)
    assert (await running.get("/healthz"))[0] == 200
    assert 'kip_image_cache_fetches_total{result="cached"} 1.0' in (await running.get("/metrics"))[1]


async def test_who_may_not_is_told(registry: LocalRegistry, start: Start) -> None:
    registry.image(APP, layer(a=b"1"))
    registry.accounts(**{"quay.io/team": {"username": "ann", "password": "secret"}})
    running = await start()
    await running.cell(await running.pod("web", APP), "t3.small")
    event = await running.event("ImageDenied")
    assert (event["type"], event["source"]["component"]) == ("Warning", "kip-image-cache")
    assert await running.volume.references() == ()


async def test_listed_images_and_those_of_waiting_pods(registry: LocalRegistry, start: Start) -> None:
    for name in ("quay.io/listed:1", "quay.io/waits:1"):
        registry.image(name, layer(a=name.encode()))
    running = await start(images=("quay.io/listed:1",), unscheduled_pods=True)
    tolerations = [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}]
    await running.pod("later", "quay.io/waits:1", nodeName="", tolerations=tolerations)

    async def both() -> bool:
        return len(await running.volume.references()) == 2

    await running.until("both are cached", both)


ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com/team"


@pytest.fixture
def role(registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kip's own login to ECR, which the registry wants."""
    registry.accounts(**{ECR: {"username": "AWS", "password": "of-the-role", "scheme": "basic"}})

    class Ecr:
        async def get_authorization_token(self) -> dict[str, Any]:
            token = base64.b64encode(b"AWS:of-the-role").decode()
            until = SystemClock().now() + timedelta(hours=12)
            return {"authorizationData": [{"authorizationToken": token, "expiresAt": until}]}

    @asynccontextmanager
    async def ecr(_session: Any, _region: str) -> AsyncIterator[Ecr]:
        yield Ecr()

    monkeypatch.setattr(process.Session, "ecr", ecr)


@pytest.mark.usefixtures("role")
@pytest.mark.parametrize(
    ("logins", "reason"),
    [
        (EcrLogins(), "ImageCached"),
        (EcrLogins(accounts=["123456789012"]), "ImageCached"),
        (EcrLogins(accounts=["210987654321"]), "ImageDenied"),
        (EcrLogins(enabled=False), "ImageDenied"),
    ],
    ids=["all", "ours", "theirs", "off"],
)
async def test_kips_role_counts_for_pods_where_their_kubelets_get_its_login(
    registry: LocalRegistry, start: Start, logins: EcrLogins, reason: str
) -> None:
    """Or a pod could have brought onto the volume what it may not pull, for whoever reads that."""
    for name in (f"{ECR}/app:1", f"{ECR}/listed:1"):
        registry.image(name, layer(a=name.encode()))
    running = await start(ecr_logins=logins, images=(f"{ECR}/listed:1",))
    await running.cell(await running.pod("web", f"{ECR}/app:1"), "t3.small")
    event = await running.event(reason)
    assert event["involvedObject"]["name"] == "web"

    async def listed() -> Any:
        return await running.volume.reference(f"{ECR}/listed:1")

    await running.until("the listed image is there in any case", listed)
    assert (await running.volume.reference(f"{ECR}/app:1") is not None) == (reason == "ImageCached")
