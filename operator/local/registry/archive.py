"""Reading saved images: what `docker save`, `buildah push … oci-archive:`, `ctr images export` and the like write.

Two formats are known, both tars and possibly compressed: the OCI image layout (index.json) and Docker's
(manifest.json). A tar that is both is read as the first. Nothing is unpacked.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kip.local.registry import manifests
from kip.local.registry.errors import RegistryError
from kip.oci.manifest import digest_of
from kip.oci.reference import InvalidName, Reference, is_digest, parse

_OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
_OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
_COMPRESSIONS = {b"\x1f\x8b": "+gzip", b"\x28\xb5\x2f\xfd": "+zstd"}
_WHOLE_NAME = "io.containerd.image.name"
_NAME_OR_TAG = "org.opencontainers.image.ref.name"


class ArchiveError(Exception):
    """The file holds no image that could be loaded; the message says why, and what was expected."""


@dataclass(frozen=True, slots=True)
class SavedManifest:
    """A manifest as it is to be put into a registry."""

    digest: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class SavedImage:
    """An image and a name of it."""

    name: Reference
    manifest: SavedManifest


class Archive:
    """An opened tar of images."""

    def __init__(self, tar: tarfile.TarFile, path: Path) -> None:
        self._path = path
        self._tar = tar
        self._members = {member.name.removeprefix("./"): member for member in tar.getmembers()}
        self._blobs: dict[str, tarfile.TarInfo] = {}
        for name, member in self._members.items():
            folder, _, leaf = name.rpartition("/")
            if folder == "blobs/sha256":
                self._blobs[f"sha256:{leaf}"] = member

    @property
    def images(self) -> list[SavedImage]:
        """Every named image. Raises ArchiveError when there is none, or one of them is damaged."""
        if "index.json" in self._members:
            found = list(self._oci_images())
        elif "manifest.json" in self._members:
            found = list(self._docker_images())
        else:
            raise self._error("it has neither index.json (OCI) nor manifest.json (Docker); is it an image?")
        if not found:
            raise self._error("its images have no name; give them one, as in `docker tag`, before saving")
        return found

    def children(self, manifest: SavedManifest) -> list[SavedManifest]:
        """Those manifests of an index that are in the archive: saving one platform leaves the others out."""
        parsed = self._parse(manifest)
        if not manifests.is_index(parsed):
            return []
        known = [entry for entry in parsed["manifests"] if entry.get("digest") in self._blobs]
        return [self._manifest(entry) for entry in known]

    def blobs(self, manifest: SavedManifest) -> list[str]:
        """The digests of an image's configuration and layers, all of them here; none for an index."""
        parsed = self._parse(manifest)
        if manifests.is_index(parsed):
            return []
        try:
            digests = list(manifests.blobs(parsed))
        except RegistryError as error:
            raise self._error(f"manifest {manifest.digest}: {error.message}") from error
        for digest in digests:
            self._blob(digest)
        return digests

    def open(self, digest: str) -> tuple[IO[bytes], int]:
        """A blob's content and its size in bytes. Raises ArchiveError when the archive lacks it."""
        return self._file(self._blob(digest))

    def _oci_images(self) -> Iterator[SavedImage]:
        index = self._json("index.json")
        for entry in self._list(index.get("manifests") if isinstance(index, dict) else None, "index.json"):
            if name := _annotated_name(entry):
                yield SavedImage(self._name(name), self._manifest(entry))

    def _docker_images(self) -> Iterator[SavedImage]:
        for entry in self._list(self._json("manifest.json"), "manifest.json"):
            names = entry.get("RepoTags") or []
            if names:
                manifest = self._converted(entry)
                yield from (SavedImage(self._name(name), manifest) for name in names)

    def _converted(self, entry: dict[str, Any]) -> SavedManifest:
        """An OCI manifest for an image in Docker's format, where layers are files and not yet blobs."""
        try:
            config, layers = str(entry["Config"]), [str(layer) for layer in entry["Layers"]]
        except (KeyError, TypeError) as error:
            raise self._error(f"manifest.json: expected Config and Layers ({error!r})") from error
        content = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _OCI_MANIFEST,
                "config": self._adopt(config, _OCI_CONFIG),
                "layers": [self._adopt(layer, _OCI_LAYER + self._compression(layer)) for layer in layers],
            },
            sort_keys=True,
        ).encode()
        return SavedManifest(digest_of(content), _OCI_MANIFEST, content)

    def _adopt(self, name: str, media_type: str) -> dict[str, Any]:
        """Makes a file of Docker's format known as a blob."""
        file, size = self._file(self._member(name))
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"  # type: ignore[arg-type]
        self._blobs[digest] = self._member(name)
        return {"mediaType": media_type, "digest": digest, "size": size}

    def _compression(self, name: str) -> str:
        file, _ = self._file(self._member(name))
        head = file.read(4)
        return next((suffix for magic, suffix in _COMPRESSIONS.items() if head.startswith(magic)), "")

    def _manifest(self, descriptor: dict[str, Any]) -> SavedManifest:
        digest = str(descriptor.get("digest"))
        if not is_digest(digest):
            raise self._error(f"digest {digest!r}: expected sha256: and 64 hexadecimal digits")
        content = self._small(*self.open(digest), digest)
        if digest_of(content) != digest:
            raise self._error(f"manifest {digest} is damaged: its content has digest {digest_of(content)}")
        return SavedManifest(digest, str(descriptor.get("mediaType", _OCI_MANIFEST)), content)

    def _parse(self, manifest: SavedManifest) -> dict[str, Any]:
        try:
            return manifests.parse(manifest.content)
        except RegistryError as error:
            raise self._error(f"manifest {manifest.digest}: {error.message}") from error

    def _json(self, name: str) -> Any:
        content = self._small(*self._file(self._member(name)), name)
        try:
            return json.loads(content)
        except ValueError as error:
            raise self._error(f"{name} is not JSON: {error}") from error

    def _small(self, file: IO[bytes], size: int, name: str) -> bytes:
        if size > manifests.LARGEST:
            raise self._error(f"{name} has {size} bytes; at most {manifests.LARGEST} are read")
        return file.read()

    def _list(self, found: Any, name: str) -> list[dict[str, Any]]:
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise self._error(f"{name}: expected a list of images")
        return found

    def _name(self, text: str) -> Reference:
        try:
            # The archive says what the digest is.
            return parse(text.partition("@")[0])
        except InvalidName as error:
            raise self._error(str(error)) from error

    def _member(self, name: str) -> tarfile.TarInfo:
        member = self._members.get(name)
        if member is None:
            raise self._error(f"{name} is missing; the file is cut off or was not saved whole")
        return member

    def _blob(self, digest: str) -> tarfile.TarInfo:
        member = self._blobs.get(digest)
        if member is None:
            raise self._error(f"blob {digest} is missing; the file is cut off or was not saved whole")
        return member

    def _file(self, member: tarfile.TarInfo) -> tuple[IO[bytes], int]:
        try:
            file = self._tar.extractfile(member)  # follows the links with which Docker shares layers
        except KeyError as error:
            raise self._error(f"{member.name}: {error.args[0]}") from error
        if file is None:
            raise self._error(f"{member.name} is no file")
        size = file.seek(0, 2)
        file.seek(0)
        return file, size

    def _error(self, reason: str) -> ArchiveError:
        return ArchiveError(f"{self._path}: {reason}")


@contextmanager
def reading(path: Path) -> Iterator[Archive]:
    """Opens a tar of images.

    Raises:
        ArchiveError: there is no such file, it is no tar, or its end is missing.
    """
    try:
        with tarfile.open(path, "r:*") as tar:
            yield Archive(tar, path)
    except (tarfile.TarError, EOFError) as error:
        raise ArchiveError(f"{path}: expected a tar of saved images ({_first_line(error)})") from error
    except OSError as error:
        raise ArchiveError(f"{path}: {error.strerror or error}") from error


def _annotated_name(entry: dict[str, Any]) -> str | None:
    annotations = entry.get("annotations") or {}
    if name := annotations.get(_WHOLE_NAME):
        return str(name)
    text = str(annotations.get(_NAME_OR_TAG) or "")
    # A bare tag ("1") names nothing: which image's?
    return text if "/" in text or ":" in text else None


def _first_line(error: Exception) -> str:
    # tarfile lists what each decompressor said.
    return str(error).partition("\n")[0].rstrip(":")
