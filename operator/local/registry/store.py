"""The registry's content as files: whatever was promised to a client is complete on disk.

    blobs/sha256/<hex>                                     every blob and manifest, named by its digest
    repositories/<registry>/<path>/_manifests/<hex>        the manifest's media type
    repositories/<registry>/<path>/_tags/<tag>             the manifest's digest
    uploads/<id>                                           uploads under way
    accounts.json                                          which repositories want a login, if any (accounts.py)

Every file appears under its name by a rename, complete. Blobs are shared by all repositories: nothing here is
secret from anybody who can ask.
"""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kip.local.registry import errors
from kip.oci.reference import Repository, is_digest, is_tag


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as it was put: its bytes are what its digest is of."""

    digest: str
    media_type: str
    path: Path


class Store:
    """The content of one registry. One process at a time may have the directory."""

    def __init__(self, directory: Path) -> None:
        self.root = directory
        self._blobs = directory / "blobs" / "sha256"
        self._repositories = directory / "repositories"
        self._uploads = directory / "uploads"
        # Their clients went away with the process that took them, or begin again.
        shutil.rmtree(self._uploads, ignore_errors=True)
        for path in (self._blobs, self._repositories, self._uploads):
            path.mkdir(parents=True, exist_ok=True)

    def blob(self, digest: str) -> Path:
        """The file of a blob. Raises RegistryError when it is unknown."""
        path = self._blob_path(digest)
        if not path.is_file():
            raise errors.blob_unknown(digest)
        return path

    def has_blob(self, digest: str) -> bool:
        """Whether the blob is here."""
        return self._blob_path(digest).is_file()

    def manifest(self, repository: Repository, reference: str) -> Manifest:
        """The manifest that a tag or a digest names. Raises RegistryError when it is unknown."""
        directory = self._directory(repository)
        if is_digest(reference):
            digest = reference
        elif is_tag(reference):
            digest = _text(directory / "_tags" / reference)
        else:
            raise errors.manifest_unknown(str(repository), repr(reference))
        media_type = _text(directory / "_manifests" / _hex(digest)) if digest else ""
        if not media_type:
            raise errors.manifest_unknown(str(repository), reference)
        return Manifest(digest, media_type, self.blob(digest))

    def put_manifest(self, repository: Repository, reference: str, content: bytes, media_type: str) -> str:
        """Keeps a manifest under its digest and, if the reference is one, a tag. Returns the digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if is_digest(reference) and reference != digest:
            raise errors.digest_invalid(f"the manifest has digest {digest}, not {reference}")
        if not is_digest(reference) and not is_tag(reference):
            raise errors.manifest_invalid(f"{reference!r} is neither a tag nor a SHA-256 digest")
        directory = self._directory(repository)
        self._write(self._blob_path(digest), content)
        self._write(directory / "_manifests" / _hex(digest), media_type.encode())
        if reference != digest:
            self._write(directory / "_tags" / reference, digest.encode())
        return digest

    def tags(self, repository: Repository) -> list[str]:
        """The repository's tags in order. Raises RegistryError when nothing was ever put there."""
        directory = self._directory(repository)
        if not (directory / "_manifests").is_dir():
            raise errors.name_unknown(str(repository))
        return sorted(path.name for path in directory.glob("_tags/*"))

    def begin_upload(self) -> str:
        """Begins an upload and returns its identity."""
        upload = uuid.uuid4().hex
        (self._uploads / upload).touch()
        return upload

    def uploaded(self, upload: str) -> int:
        """How many bytes of an upload are here."""
        return self._upload_path(upload).stat().st_size

    @contextmanager
    def appending(self, upload: str) -> Iterator[BinaryIO]:
        """The upload's file, to write more to its end."""
        with self._upload_path(upload).open("ab") as file:
            yield file

    def finish_upload(self, upload: str, digest: str) -> None:
        """Makes a blob of an upload whose content has that digest; otherwise the upload is dropped."""
        path = self._upload_path(upload)
        target = self._blob_path(digest)
        with path.open("rb") as file:
            found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        if found != digest:
            path.unlink()
            raise errors.digest_invalid(f"the content has digest {found}, not {digest}")
        path.replace(target)

    def drop_upload(self, upload: str) -> None:
        """Forgets an upload."""
        self._upload_path(upload).unlink()

    def _blob_path(self, digest: str) -> Path:
        if not is_digest(digest):
            raise errors.digest_invalid(f"digest {digest!r}: expected sha256: and 64 hexadecimal digits")
        return self._blobs / _hex(digest)

    def _upload_path(self, upload: str) -> Path:
        path = self._uploads / upload
        # The identity comes out of a URL: it names one of our files, or nothing.
        if not upload.isalnum() or not path.is_file():
            raise errors.upload_unknown(upload)
        return path

    def _directory(self, repository: Repository) -> Path:
        # A repository's components begin with a letter or digit: none is "..", "_tags" or "_manifests".
        return self._repositories / repository.registry / repository.path

    def _write(self, target: Path, content: bytes) -> None:
        partial = self._uploads / f"write-{uuid.uuid4().hex}"
        partial.write_bytes(content)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(target)


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return ""
