"""Images of many layers for tests: made on the spot, put into the world's registry, and into its image cache."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import platform
import re
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.unit.images.layers import directory, file, symlink, tar_of

from kip.images.format import Image
from kip.images.mksquashfs import Limits
from kip.images.pull import ImageCache
from kip.images.source import RegistrySource
from kip.images.verify import Report, verify
from kip.images.volume import Volume
from kip.local.build import program
from kip.local.images import PROGRAMS
from kip.local.registry import load
from kip.local.volume import control
from kip.local.world import World
from kip.model.clock import SystemClock
from kip.oci.client import open_registries
from kip.oci.credentials import ANONYMOUS, Credential, Keyring
from kip.oci.reference import parse

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_LINE = re.compile(r'(\S+) "(GET|HEAD) (/v2/\S+) HTTP/1.1" (\d+)')
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def busybox() -> bytes:
    """The lowest layer of images that are run: a shell and its commands, and users."""
    content = program(PROGRAMS, "busybox").read_bytes()
    names = (
        "sh",
        "cat",
        "ls",
        "sleep",
        "true",
        "echo",
        "find",
        "stat",
        "id",
        "dd",
        "head",
        "md5sum",
        "touch",
    )
    return tar_of(
        directory("bin"),
        directory("etc"),
        directory("tmp", mode=0o1777),
        file("bin/busybox", content, mode=0o755),
        *(symlink(f"bin/{name}", "busybox") for name in names),
        file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n"),
    )


class _Archive:
    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    def put(self, content: bytes, kind: str, **more: Any) -> dict[str, Any]:
        digits = hashlib.sha256(content).hexdigest()
        self.blobs[digits] = content
        return {"mediaType": kind, "digest": f"sha256:{digits}", "size": len(content), **more}

    def image(self, layers: Sequence[bytes], *, compress: bool, architecture: str) -> dict[str, Any]:
        diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
        config = {
            "os": "linux",
            "architecture": architecture,
            "config": {"Cmd": ["/bin/sleep", "infinity"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        described = [
            self.put(gzip.compress(layer, 1, mtime=0), f"{_LAYER}+gzip")
            if compress
            else self.put(layer, _LAYER)
            for layer in layers
        ]
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.put(_json(config), OCI_CONFIG),
            "layers": described,
        }
        return self.put(_json(manifest), OCI_MANIFEST, platform={"os": "linux", "architecture": architecture})

    def write(self, path: Path, name: str, top: Mapping[str, Any]) -> None:
        index = {
            "schemaVersion": 2,
            "manifests": [{**top, "annotations": {"io.containerd.image.name": name}}],
        }
        members = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": _json(index)}
        members |= {f"blobs/sha256/{digits}": content for digits, content in self.blobs.items()}
        with tarfile.open(path, "w") as tar:
            for member, content in members.items():
                entry = tarfile.TarInfo(member)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))


def push(
    world: World, name: str, *layers: bytes, compress: bool = True, index: bool = False, base: bool = True
) -> str:
    """Puts an image of busybox and these layers, tars, into the registry; returns its digest there.

    With `index` the name leads to an index that has one for another architecture too.
    """
    archive = _Archive()
    whole = [*([busybox()] if base else ()), *layers]
    top = archive.image(whole, compress=compress, architecture=ARCHITECTURE)
    if index:
        other = archive.image([tar_of(directory("other"))], compress=True, architecture="riscv64")
        top = archive.put(
            _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [top, other]}), OCI_INDEX
        )
    with tempfile.TemporaryDirectory(prefix="kip-image-") as work:
        path = Path(work) / "image.tar"
        archive.write(path, name, top)
        load(path, world.url("registry"))
    return str(top["digest"])


def cache(world: World, name: str, login: tuple[str, str] | None = None) -> Image:
    """Puts the image into the image cache, as its controller does."""

    async def add() -> Image:
        clock = SystemClock()
        volume = Volume(control.files(world), clock)
        reference = parse(name)
        logins = Keyring([(reference.repository.registry, Credential(*login))]) if login else ANONYMOUS
        async with open_registries(clock, mirrors={"*": [world.url("registry")]}) as registries:
            images = ImageCache(
                volume, clock=clock, creator="test", slots=asyncio.Semaphore(2), limits=Limits(2, 256)
            )
            cached = await images.add(
                reference, RegistrySource(registries, logins), (f"linux/{ARCHITECTURE}",)
            )
        [image] = cached.images
        return image

    return asyncio.run(add())


def verified(world: World) -> Report:
    """What a look at every byte on the image cache's volume says."""
    clock = SystemClock()
    return asyncio.run(verify(Volume(control.files(world), clock), clock))


@dataclass(frozen=True)
class Asked:
    """One request that the registry got."""

    address: str
    method: str
    path: str
    status: int

    @property
    def is_layer(self) -> bool:
        """Whether it is for a blob; an image's configuration is one too."""
        return "/blobs/" in self.path


class RegistryLog:
    """What the registry is asked from now on."""

    def __init__(self, world: World) -> None:
        self._path = world.logs / "registry.log"
        self._begin = self._path.stat().st_size

    def requests(self, address: str, repository: str) -> list[Asked]:
        """Of that machine (or the host) for that repository."""
        with self._path.open("rb") as log:
            log.seek(self._begin)
            found = [Asked(m[1], m[2], m[3], int(m[4])) for m in _LINE.finditer(log.read().decode())]
        return [each for each in found if each.address == address and f"/v2/{repository}/" in each.path]


def _json(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
