"""Writing an OCI image of one layer as a tar, byte for byte the same from the same files.

Formats: the OCI image specification's image layout, manifest and configuration.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

_EPOCH = "1970-01-01T00:00:00Z"  # a real date would change the digests
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"  # uncompressed: compressors differ between versions
# Directories that containers expect whatever the image; the mode of /tmp lets any user write there.
_DIRECTORIES = {"etc": 0o755, "root": 0o700, "tmp": 0o1777}


@dataclass(frozen=True, kw_only=True)
class Image:
    """What an image is made of; paths inside it are relative to its root."""

    name: str
    """With registry and tag: `demo.kip.local/web:1`."""
    architecture: str
    programs: Mapping[str, Path]
    texts: Mapping[str, bytes] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    """Symbolic links: where, and what they say."""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    user: str = ""


def write(image: Image, target: Path) -> None:
    """Writes the image's archive; a reader finds the old file or the complete new one."""
    layer = _layer(image)
    config = _json(_config(image, layer))
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, config),
            "layers": [_descriptor(_LAYER, layer)],
        }
    )
    index = {"schemaVersion": 2, "manifests": [_named(_descriptor(_MANIFEST, manifest), image.name)]}
    members = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index)}
    members |= {f"blobs/sha256/{_sha256(blob)}": blob for blob in (manifest, config, layer)}
    archive = _Archive()
    for path, content in members.items():
        archive.file(path, content)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.write_bytes(archive.close())
    partial.replace(target)


def _named(descriptor: dict[str, object], name: str) -> dict[str, object]:
    # containerd reads the first, other tools the second.
    annotations = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    return {**descriptor, "annotations": annotations}


def _config(image: Image, layer: bytes) -> dict[str, object]:
    run: dict[str, object] = {
        "User": image.user,
        "Env": list(image.environment),
        "Entrypoint": list(image.entrypoint),
        "Cmd": list(image.command),
        "ExposedPorts": {port: {} for port in image.ports},
    }
    return {
        "created": _EPOCH,
        "architecture": image.architecture,
        "os": "linux",
        "config": {key: value for key, value in run.items() if value},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_sha256(layer)}"]},
        "history": [{"created": _EPOCH, "created_by": "kip local"}],
    }


def _layer(image: Image) -> bytes:
    archive = _Archive()
    paths = [*image.programs, *image.texts, *image.links]
    parents = {str(parent): 0o755 for path in paths for parent in PurePosixPath(path).parents if parent.name}
    for path, mode in sorted((parents | _DIRECTORIES).items()):
        archive.directory(path, mode)
    for path, program in sorted(image.programs.items()):
        archive.file(path, program.read_bytes(), mode=0o755)
    for path, text in sorted(image.texts.items()):
        archive.file(path, text)
    for path, says in sorted(image.links.items()):
        archive.link(path, says)
    return archive.close()


class _Archive:
    """A tar in memory: everything belongs to root and is from 1970."""

    def __init__(self) -> None:
        self._content = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._content, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def directory(self, path: str, mode: int) -> None:
        entry = tarfile.TarInfo(path)
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        self._tar.addfile(entry)

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        entry = tarfile.TarInfo(path)
        entry.size, entry.mode = len(content), mode
        self._tar.addfile(entry, io.BytesIO(content))

    def link(self, path: str, says: str) -> None:
        entry = tarfile.TarInfo(path)
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, says, 0o777
        self._tar.addfile(entry)

    def close(self) -> bytes:
        self._tar.close()
        return self._content.getvalue()


def _descriptor(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": f"sha256:{_sha256(content)}", "size": len(content)}


def _json(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
