"""A registry that really listens, and archives made by hand."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from kip.local.registry.app import create
from kip.local.registry.store import Store


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[TestClient]:
    async with TestClient(TestServer(create(Store(tmp_path / "registry")))) as client:
        yield client


@pytest.fixture
def url(client: TestClient) -> str:
    return str(client.make_url("")).rstrip("/")


class Saved:
    """The files of an archive, to be changed before it is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: dict[str, bytes] = {}

    def blob(self, content: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        self.files[f"blobs/sha256/{digest}"] = content
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    def image(self, layer: bytes = b"a layer") -> dict[str, object]:
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.blob(b"{}", "application/vnd.oci.image.config.v1+json"),
            "layers": [self.blob(layer, "application/vnd.oci.image.layer.v1.tar")],
        }
        return self.blob(json.dumps(manifest).encode(), manifest["mediaType"])

    def write(self) -> Path:
        with tarfile.open(self.path, "w") as tar:
            for name, content in self.files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        return self.path


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    return Saved(tmp_path / "image.tar")


@pytest.fixture
def named_image(saved: Saved) -> Callable[[str], Path]:
    """Writes an OCI archive with one image of that name."""

    def write(name: str) -> Path:
        descriptor = {**saved.image(), "annotations": {"io.containerd.image.name": name}}
        saved.files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode()
        return saved.write()

    return write
