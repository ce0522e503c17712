"""What is kept survives the process; what was under way does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from kip.local.registry.errors import RegistryError
from kip.local.registry.store import Store
from kip.oci.reference import Repository

WEB = Repository("demo.kip.local", "web")


def test_content_is_there_after_a_restart(tmp_path: Path) -> None:
    digest = Store(tmp_path).put_manifest(WEB, "1", b"{}", "text/x")
    found = Store(tmp_path).manifest(WEB, "1")
    assert (found.digest, found.media_type, found.path.read_bytes()) == (digest, "text/x", b"{}")


def test_an_upload_under_way_is_forgotten_at_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path)
    upload = store.begin_upload()
    with store.appending(upload) as file:
        file.write(b"half")
    again = Store(tmp_path)
    with pytest.raises(RegistryError, match="begin again"):
        again.uploaded(upload)
    assert list((tmp_path / "uploads").iterdir()) == []


def test_a_tag_moves(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old = store.put_manifest(WEB, "1", b"old", "text/x")
    new = store.put_manifest(WEB, "1", b"new", "text/x")
    assert store.manifest(WEB, "1").digest == new
    assert store.manifest(WEB, old).path.read_bytes() == b"old"


def test_a_repository_inside_a_repository(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put_manifest(Repository("demo.kip.local", "web/inner"), "1", b"{}", "text/x")
    with pytest.raises(RegistryError, match="not known"):
        store.tags(WEB)


@pytest.mark.parametrize("reference", ["../1", "-x", "", "sha256:zz", "a/b"])
def test_a_reference_that_is_none_is_refused(tmp_path: Path, reference: str) -> None:
    store = Store(tmp_path)
    with pytest.raises(RegistryError):
        store.put_manifest(WEB, reference, b"{}", "text/x")
    with pytest.raises(RegistryError):
        store.manifest(WEB, reference)
