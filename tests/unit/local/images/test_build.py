"""The images: built from the programs, with a clear word when those cannot be had."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest

from kip.local.build import BuildError
from kip.local.images import DEVICE_PLUGIN, PAUSE, TOOLBOX, WEB, build_all
from kip.local.images import build as images

_PT_INTERP = 3


def files_of(archive: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(archive) as tar:
        blobs = [tar.extractfile(member) for member in tar.getmembers() if member.name.startswith("blobs/")]
        layer = max(blobs, key=lambda file: file.seek(0, 2))
        layer.seek(0)
        with tarfile.open(fileobj=layer) as files:
            return {member.name: member for member in files.getmembers()}


def test_all_are_made_again_byte_for_byte(programs: Path, tmp_path: Path) -> None:
    made = build_all(tmp_path / "one")
    assert set(made) == {PAUSE, WEB, TOOLBOX, DEVICE_PLUGIN}
    again = build_all(tmp_path / "two")
    assert {n: p.read_bytes() for n, p in made.items()} == {n: p.read_bytes() for n, p in again.items()}
    assert "pause" in files_of(made[PAUSE])
    assert "web" in files_of(made[WEB])
    assert "deviceplugin" in files_of(made[DEVICE_PLUGIN])
    toolbox = files_of(made[TOOLBOX])
    assert {"bin/sh", "bin/wget", "bin/nslookup", "bin/cat"} <= set(toolbox)
    assert toolbox["bin/sh"].linkname == "busybox"


def test_each_says_its_name(programs: Path, tmp_path: Path) -> None:
    for name, path in build_all(tmp_path).items():
        with tarfile.open(path) as tar:
            index = json.load(tar.extractfile("index.json"))
        assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == name


def test_ready_programs_that_are_not_all_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIP_IMAGE_BIN_DIR", str(tmp_path))
    with pytest.raises(BuildError, match="has no executable pause, web, deviceplugin, busybox"):
        build_all(tmp_path / "images")


@pytest.mark.parametrize("failure", ["missing", "offline"])
def test_busybox_that_cannot_be_had_names_the_package_and_the_way_round(
    failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    if failure == "offline":
        (commands / "apt-get").write_text("#!/bin/sh\necho 'E: Unable to locate package' >&2\nexit 100\n")
        (commands / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(commands))
    with pytest.raises(BuildError, match=r"busybox-static .*KIP_IMAGE_BIN_DIR") as error:
        images._fetch_busybox(tmp_path / "busybox")
    assert ("Unable to locate" if failure == "offline" else "was not found") in str(error.value)


def test_package_lists_that_are_missing_are_fetched_by_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = tmp_path / "commands"
    commands.mkdir()
    (commands / "apt-get").write_text(
        f"#!/bin/sh\ncase $2 in update) /bin/touch {tmp_path}/lists;; download) [ -e {tmp_path}/lists ] || exit 100\n"
        "echo busybox > busybox-static_1.deb;; esac\n"
    )
    (commands / "dpkg-deb").write_text(
        "#!/bin/sh\n/bin/mkdir -p content/bin && /bin/cp $2 content/bin/busybox\n"
    )
    for command in commands.iterdir():
        command.chmod(0o755)
    monkeypatch.setenv("PATH", str(commands))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    images._fetch_busybox(tmp_path / "busybox")
    assert (tmp_path / "busybox").read_text() == "busybox\n"
    (tmp_path / "lists").unlink()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BuildError, match="apt-get --quiet download"):
        images._fetch_busybox(tmp_path / "busybox")


def test_the_toolbox_needs_no_library(programs: Path) -> None:
    done = subprocess.run(
        [programs / "busybox", "sh", "-c", "echo $((6*7))"], capture_output=True, check=True
    )
    assert done.stdout == b"42\n"
    for name in ("pause", "web", "deviceplugin", "busybox"):
        assert _PT_INTERP not in program_headers(programs / name), f"{name} asks for a dynamic loader"


def program_headers(program: Path) -> list[int]:
    """The types of a 64-bit little-endian ELF file's program headers (see elf(5))."""
    content = program.read_bytes()
    (offset,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    return [struct.unpack_from("<I", content, offset + i * size)[0] for i in range(count)]
