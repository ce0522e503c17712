"""Putting saved images into the local registry: to a local world what `kind load` is to a kind cluster."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO
from urllib.parse import quote, urlsplit

from kip.local.registry.archive import Archive, SavedImage, SavedManifest, reading
from kip.oci.reference import Repository

_TIMEOUT = 60.0  # seconds without an answer; the registry is on this machine


class LoadError(Exception):
    """The registry could not be reached, or refused; the message has its words."""


def load(tar: Path, registry_url: str) -> list[str]:
    """Puts every named image of a saved tar into the registry, each under its own name.

    Blobs that are there already are not sent again. Returns the full names, such as
    `docker.io/library/nginx:1.29`.

    Raises:
        ArchiveError: the file holds no image that could be loaded.
        LoadError: the registry could not be reached, or refused.
    """
    with reading(tar) as archive, _Registry(registry_url) as registry:
        images = archive.images
        for image in images:
            _put(archive, registry, image)
        return [str(image.name) for image in images]


def _put(archive: Archive, registry: _Registry, image: SavedImage) -> None:
    repository = image.name.repository

    def put(manifest: SavedManifest, reference: str) -> None:
        for child in archive.children(manifest):
            put(child, child.digest)
        for digest in archive.blobs(manifest):
            if not registry.has_blob(repository, digest):
                registry.put_blob(repository, digest, *archive.open(digest))
        registry.put_manifest(repository, reference, manifest)

    put(image.manifest, image.name.tag)


class _Registry:
    """The few requests that pushing needs, over one connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise LoadError(f"registry address {url!r}: expected http://HOST:PORT")
        self._url = url
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=_TIMEOUT)

    def __enter__(self) -> _Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def has_blob(self, repository: Repository, digest: str) -> bool:
        status, _ = self._ask("HEAD", _path(repository, f"blobs/{digest}"))
        return status == http.client.OK

    def put_blob(self, repository: Repository, digest: str, content: IO[bytes], size: int) -> None:
        path = _path(repository, "blobs/uploads/", digest=digest)
        self._create("POST", path, content, {"Content-Length": str(size)})

    def put_manifest(self, repository: Repository, reference: str, manifest: SavedManifest) -> None:
        path = _path(repository, f"manifests/{reference}")
        self._create("PUT", path, manifest.content, {"Content-Type": manifest.media_type})

    def _create(self, method: str, path: str, body: bytes | IO[bytes], headers: Mapping[str, str]) -> None:
        status, answer = self._ask(method, path, body, headers)
        if status != http.client.CREATED:
            raise LoadError(f"{self._url}: {method} {path} was answered {status}: {_words(answer)}")

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | IO[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        try:
            self._connection.request(method, path, body, dict(headers or {}))
            response = self._connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise LoadError(f"no answer from the registry at {self._url}: {error}") from error


def _path(repository: Repository, rest: str, **query: str) -> str:
    query = {"ns": repository.registry, **query}
    return f"/v2/{repository.path}/{rest}?{'&'.join(f'{key}={quote(value)}' for key, value in query.items())}"


def _words(answer: bytes) -> str:
    """What the registry says in its error, or the answer itself if it is in no form we know."""
    try:
        return "; ".join(str(error["message"]) for error in json.loads(answer)["errors"])
    except (ValueError, KeyError, TypeError):
        return answer[:200].decode(errors="replace")
