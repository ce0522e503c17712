"""The local world's registry, really listening, with content that a test writes."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from kip.local.registry.accounts import FILE
from kip.local.registry.app import create
from kip.local.registry.store import Store
from kip.model.backoff import Backoff
from kip.oci import manifest as manifests
from kip.oci.manifest import Descriptor, digest_of
from kip.oci.reference import parse
from kip.oci.transport import Patience

PATIENCE = Patience(attempts=3, backoff=Backoff(first_s=0.001, limit_s=0.001), longest_wait_s=5)
CONFIG = "application/vnd.oci.image.config.v1+json"
# Bytes; whatever is larger is a layer.
_CONFIGURATION = 4096
LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass
class LocalRegistry:
    """A registry whose content a test writes, and whose log it reads."""

    store: Store
    url: str
    asked: list[str] = field(default_factory=list)
    """`GET /v2/…?ns=…`, in order."""
    held: asyncio.Event = field(default_factory=asyncio.Event)
    """While `holding`, a layer stops after its first half until this is set."""
    holding: bool = False

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
        diff_ids = [digest_of(layer) for layer in layers]
        rootfs = {"type": "layers", "diff_ids": diff_ids}
        fields = {"os": "linux", "architecture": architecture, "rootfs": rootfs, **config}
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


def layer(**files: bytes) -> bytes:
    """A layer's tar, without compression."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
    return content.getvalue()


@asynccontextmanager
async def local_registry(directory: Path) -> AsyncIterator[LocalRegistry]:
    """One that listens on the loopback while the context lasts."""
    registry = LocalRegistry(Store(directory), "")
    application = create(registry.store)

    async def remember(request: web.Request, _response: web.StreamResponse) -> None:
        registry.asked.append(f"{request.method} {request.path_qs}")

    @web.middleware
    async def hold(request: web.Request, handler: Any) -> web.StreamResponse:
        answer: web.StreamResponse = await handler(request)
        if not (registry.holding and isinstance(answer, web.FileResponse) and request.method == "GET"):
            return answer
        content = registry.store.blob(request.match_info["digest"]).read_bytes()
        slow = web.StreamResponse()
        slow.content_length = len(content)
        await slow.prepare(request)
        half = len(content) // 2
        await slow.write(content[:half])
        if len(content) > _CONFIGURATION:
            await registry.held.wait()
        await slow.write(content[half:])
        return slow

    application.on_response_prepare.append(remember)
    application.middlewares.append(hold)
    async with TestServer(application) as server:
        registry.url = str(server.make_url("")).rstrip("/")
        yield registry
