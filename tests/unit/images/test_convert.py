"""A layer on the volume is, mounted, what containerd makes of the same layer."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest
from tests.unit.images.layers import (
    TIME,
    Memory,
    directory,
    file,
    info,
    layer_of,
    link,
    symlink,
    tar_of,
)
from tests.unit.images.unpacked import contents, mounted, unpack

from kip.images import format as layout
from kip.images.convert import convert_layer
from kip.images.format import Trailer
from kip.images.mksquashfs import Limits
from kip.images.volume import Volume
from kip.model.clock import SystemClock

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems: needs root")
CAPABILITY = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"


ONE = Limits(processors=1, memory_mib=64)


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    (tmp_path / "volume").mkdir()
    return Volume(tmp_path / "volume", SystemClock())


async def convert(volume: Volume, tar: bytes, blob: bytes | None = None, limits: Limits = ONE) -> Trailer:
    layer = layer_of(tar, blob)
    source = Memory.of(tar if blob is None else blob)
    return await convert_layer(
        volume, layer, source.opener(layer.digest), chain_id=layer.diff_id, limits=limits
    )


def path_of(volume: Volume, trailer: Trailer) -> Path:
    return volume.root / layout.layer_path(trailer.file_id)


def left(volume: Volume) -> list[Path]:
    return [path for path in volume.root.rglob("*") if path.is_file()]


async def compare(volume: Volume, tmp_path: Path, tar: bytes, *, times: bool = True) -> None:
    trailer = await convert(volume, tar)
    unpack(tar, tmp_path / "unpacked")
    with mounted(path_of(volume, trailer), tmp_path / "mounted") as found:
        assert contents(found, times=times) == contents(tmp_path / "unpacked", times=times)
        top = found.stat()
        assert (top.st_mode & 0o7777, top.st_uid, top.st_gid, top.st_mtime) == (0o755, 0, 0, 0)


LONG = "d" * 90 + "/" + "n" * 200
USUAL = (
    directory("./", mode=0o700, uid=7),
    directory("etc"),
    file("./etc/passwd", b"root:x:0:0\n", mode=0o640, gid=42),
    directory("usr/", mode=0o1777, mtime=0),
    file(
        "usr/ping",
        b"ping" * 50_000,
        mode=0o755,
        xattrs={"security.capability": CAPABILITY, "user.note": "a=b\n"},
    ),
    link(
        "usr/ping6",
        "./usr/ping",
        mode=0o755,
        xattrs={"security.capability": CAPABILITY, "user.note": "a=b\n"},
    ),
    link("usr/passwd", "/etc/passwd", mode=0o640, gid=42),
    file("usr/su", b"su", mode=0o4755),
    symlink("usr/lib", "../lib64/" + "x" * 150, uid=3_000_000, gid=4_000_000_000),
    link("usr/lib2", "usr/lib", uid=3_000_000, gid=4_000_000_000),
    file(LONG, b"long"),
    link(LONG + "2", LONG),
    info("null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
    info("loop", tarfile.BLKTYPE, devmajor=7, devminor=300),
    info("fifo", tarfile.FIFOTYPE),
    file("old", b"", mtime=-5),
    file("late", b"", mtime=2**32 - 1),
    file("b\udcff\udcfe", b"no UTF-8"),
    file("line\nbreak", b"\n"),
    file("empty"),
    directory("var/lib/dpkg", uid=1000, gid=1000, xattrs={"user.x": "1"}),
    file("var/lib/.wh.gone"),
    directory("var/lib/opaque"),
    file("var/lib/opaque/.wh..wh..opq"),
    file("var/lib/opaque/new", b"new"),
    file(".wh..wh.plnk/1.2", b"left by aufs"),
    info("fraction", mtime=TIME + 0.75),
)


@as_root
@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
async def test_all_that_layers_have(volume: Volume, tmp_path: Path, kind: int) -> None:
    await compare(volume, tmp_path, tar_of(*USUAL, kind=kind), times=False)


@as_root
@pytest.mark.parametrize(
    "entries",
    [
        pytest.param((file("a", b"1"), file("b", b"2"), file("a", b"3")), id="the same file twice"),
        pytest.param((file("a", b"1"), link("b", "a"), file("a", b"2")), id="a name of two is given anew"),
        pytest.param((file("a", b"1"), link("b", "a"), link("b", "a")), id="the same link twice"),
        pytest.param((file("a", b"1"), link("b", "a", mode=0o600, uid=9)), id="a link that says more"),
        pytest.param(
            (
                file("a", b"1", xattrs={"security.capability": CAPABILITY, "user.a": "1"}),
                link("b", "a", xattrs={"user.b": "2"}),
            ),
            id="a link takes capabilities and adds attributes",
        ),
        pytest.param(
            (directory("a"), file("a/b"), file("a", b"now a file")), id="a directory becomes a file"
        ),
        pytest.param((file("a"), directory("a"), file("a/b")), id="a file becomes a directory"),
        pytest.param(
            (
                directory("a", mode=0o700, xattrs={"user.a": "1"}),
                file("a/b"),
                directory("a", mode=0o711, xattrs={"user.b": "1"}),
            ),
            id="a directory twice",
        ),
        pytest.param((directory("a"), symlink("b", "a"), file("b/c", b"in a")), id="a file through a link"),
        pytest.param(
            (directory("a"), symlink("b", "/../../a"), file("b/c", b"in a")), id="a link out of the root"
        ),
        pytest.param((symlink("b", "missing/../x"), file("b/c"), file("x/d")), id="a link to nothing yet"),
        pytest.param(
            (file("../../up"), file("/absolute"), file("a/./b/../c")), id="names that are not clean"
        ),
        pytest.param((file("a", b"1"), file(".wh.a")), id="a whiteout of what the layer itself has"),
        pytest.param((file(".wh.a"), file("a", b"1")), id="a file after its whiteout"),
        pytest.param((file("d/.wh.a"), directory("d/a"), file("d/a/b")), id="a directory after its whiteout"),
        pytest.param(
            (file("a", xattrs={"trusted.overlay.opaque": "y", "user.overlay.x": "y"}),),
            id="trusted attributes",
        ),
        pytest.param(
            (symlink("a", "b", xattrs={"user.x": "y"}), info("c", tarfile.FIFOTYPE, xattrs={"user.x": "y"})),
            id="user attributes",
        ),
        pytest.param((directory("x", uid=5, gid=5), file("x/y", uid=5, gid=5)), id="nothing of root's"),
        pytest.param((), id="nothing at all"),
    ],
)
async def test_what_comes_later_counts(
    volume: Volume, tmp_path: Path, entries: tuple[tarfile.TarInfo, ...]
) -> None:
    tar = tar_of(*entries)
    trailer = await convert(volume, tar)
    unpack(tar, tmp_path / "unpacked")
    with mounted(path_of(volume, trailer), tmp_path / "mounted") as found:
        seen = contents(found, times=False)
        hidden = seen.pop(".kip", None)
        assert (hidden is not None) == (not any(0 in each.owner for each in seen.values()))
        assert seen == contents(tmp_path / "unpacked", times=False)
        assert (found.stat().st_uid, found.stat().st_gid) == (0, 0)
