"""The local world's registry, really listening, and whatever a test wants to say in a registry's place."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from kip.local.registry.accounts import FILE
from kip.local.registry.app import create
from kip.local.registry.store import Store
from kip.model.backoff import Backoff
from kip.model.clock import SystemClock
from kip.oci import manifest as manifests
from kip.oci.client import Registries, open_registries
from kip.oci.manifest import Descriptor, digest_of
from kip.oci.reference import Reference, parse
from kip.oci.transport import Patience

PATIENCE = Patience(attempts=3, backoff=Backoff(first_s=0.001, limit_s=0.001), longest_wait_s=5)
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass
class LocalRegistry:
    """A registry whose content a test writes, and whose log it reads."""

    store: Store
    url: str
    asked: list[str] = field(default_factory=list)
    """`GET /v2/…?ns=…`, in order."""

    def accounts(self, **accounts: Mapping[str, str]) -> None:
        (self.store.root / FILE).write_text(json.dumps(accounts))

    def blob(self, content: bytes, media_type: str = LAYER) -> Descriptor:
        upload = self.store.begin_upload()
        with self.store.appending(upload) as file:
            file.write(content)
        self.store.finish_upload(upload, digest_of(content))
        return Descriptor(media_type, digest_of(content), len(content))

    def image(self, name: str, *layers: bytes, architecture: str = "amd64", **config: Any) -> str:
        """Puts an image of one platform there; returns its digest."""
        fields = {"os": "linux", "architecture": architecture, **config}
        manifest = {
            "schemaVersion": 2,
            "mediaType": manifests.OCI_MANIFEST,
            "config": as_json(self.blob(json.dumps(fields).encode(), CONFIG)),
            "layers": [as_json(self.blob(layer)) for layer in layers],
        }
        return self.manifest(name, manifest)

    def manifest(self, name: str, fields: Mapping[str, Any]) -> str:
        reference = parse(name)
        content = json.dumps(fields).encode()
        return self.store.put_manifest(
            reference.repository, reference.target, content, str(fields.get("mediaType"))
        )


def as_json(descriptor: Descriptor, **more: Any) -> dict[str, Any]:
    return {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size, **more}


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[LocalRegistry]:
    store = Store(tmp_path / "registry")
    application = create(store)
    asked: list[str] = []

    async def remember(request: web.Request, _response: web.StreamResponse) -> None:
        asked.append(f"{request.method} {request.path_qs}")

    application.on_response_prepare.append(remember)
    async with TestServer(application) as server:
        yield LocalRegistry(store, str(server.make_url("")).rstrip("/"), asked)


@pytest.fixture
async def registries(registry: LocalRegistry) -> AsyncIterator[Registries]:
    """A client that asks that registry for all others."""
    async with open_registries(SystemClock(), mirrors={"*": [registry.url]}, patience=PATIENCE) as client:
        yield client


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Answer], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a server that answers everything with that function; returns its URL."""
    async with AsyncExitStack() as stack:

        async def start(answer: Answer) -> str:
            application = web.Application()
            application.router.add_route("*", "/{path:.*}", answer)
            server = await stack.enter_async_context(TestServer(application))
            return str(server.make_url("")).rstrip("/")

        yield start


Client = Callable[..., Awaitable[Registries]]


@pytest.fixture
async def client_of() -> AsyncIterator[Client]:
    """A client that asks at these URLs for all registries."""
    async with AsyncExitStack() as stack:

        async def client(*urls: str, patience: Patience = PATIENCE) -> Registries:
            mirrors = {"*": list(urls)}
            return await stack.enter_async_context(
                open_registries(SystemClock(), mirrors=mirrors, patience=patience)
            )

        yield client


@pytest.fixture
def reference() -> Reference:
    return parse("quay.io/team/app:1")
