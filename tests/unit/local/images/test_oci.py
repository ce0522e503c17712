"""An image's archive: the same bytes for the same files, and what containerd expects to find."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tarfile
from pathlib import Path

import pytest

from kip.local.images.oci import Image, write


@pytest.fixture
def image(tmp_path: Path) -> Image:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    return Image(
        name="demo.kip.local/thing:1",
        architecture="amd64",
        programs={"usr/bin/thing": program},
        texts={"etc/passwd": b"root:x:0:0::/:\n"},
        links={"usr/bin/alias": "thing"},
        entrypoint=("/usr/bin/thing",),
        user="65534",
    )


def test_the_same_files_give_the_same_archive(image: Image, tmp_path: Path) -> None:
    write(image, tmp_path / "one.tar")
    os.utime(image.programs["usr/bin/thing"], (1, 1))
    write(image, tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.tar", "program", "two.tar"]


def test_every_digest_is_of_what_it_names(image: Image, tmp_path: Path) -> None:
    write(image, tmp_path / "image.tar")
    with tarfile.open(tmp_path / "image.tar") as tar:
        blobs = {name: _read(tar, name) for name in tar.getnames() if name.startswith("blobs/")}
        index = json.loads(_read(tar, "index.json"))
        assert json.loads(_read(tar, "oci-layout")) == {"imageLayoutVersion": "1.0.0"}
    for name, content in blobs.items():
        assert name == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"
    (entry,) = index["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == "demo.kip.local/thing:1"
    manifest = json.loads(blobs[_blob(entry)])
    config = json.loads(blobs[_blob(manifest["config"])])
    (layer,) = manifest["layers"]
    assert config["rootfs"]["diff_ids"] == [layer["digest"]], "an uncompressed layer is its own diff"
    assert (config["os"], config["architecture"]) == ("linux", "amd64")
    assert config["config"] == {"Entrypoint": ["/usr/bin/thing"], "User": "65534"}
    assert all(len(blobs[_blob(d)]) == d["size"] for d in (entry, manifest["config"], layer))


def test_the_files_are_roots_and_can_be_used(image: Image, tmp_path: Path) -> None:
    write(image, tmp_path / "image.tar")
    with tarfile.open(tmp_path / "image.tar") as tar:
        manifest = json.loads(_read(tar, _blob(json.loads(_read(tar, "index.json"))["manifests"][0])))
        layer = tar.extractfile(_blob(manifest["layers"][0]))
        with tarfile.open(fileobj=layer) as files:
            members = {member.name: member for member in files.getmembers()}
    assert {(member.uid, member.gid, member.mtime) for member in members.values()} == {(0, 0, 0)}
    assert members["usr/bin/thing"].mode == 0o755
    assert members["usr/bin/alias"].linkname == "thing"
    assert members["tmp"].mode == stat.S_ISVTX | 0o777
    names = list(members)
    assert names.index("usr") < names.index("usr/bin") < names.index("usr/bin/thing")


def _blob(descriptor: dict[str, str]) -> str:
    return f"blobs/{descriptor['digest'].replace(':', '/')}"


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()
