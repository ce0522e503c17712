"""A layer on the volume is, mounted, what containerd makes of the same layer."""

from __future__ import annotations

import asyncio
import gzip
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.images.layers import (
    TIME,
    Memory,
    directory,
    file,
    info,
    layer_of,
    link,
    programs,
    sha256,
    symlink,
    tar_of,
)
from tests.unit.images.unpacked import Refused, contents, mounted, unpack

from kip.images import format as layout
from kip.images.convert import convert_layer
from kip.images.decompress import zstd
from kip.images.errors import CachingError, LayerRefused, ToolFailed, ToolMissing, VolumeFull, WrongContent
from kip.images.format import BLOCK, Trailer
from kip.images.mksquashfs import Limits
from kip.images.verify import verify
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
        pytest.param((file("d/.wh.a"), file("b"), link("b", "d/a")), id="a hard link to a whiteout"),
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


NAMES = st.sampled_from(["a", "b", "c", "a/b", "a/c", "b/a", "a/b/c", "./a", "../b", "/c", "a/../c", "c/a/b"])
TARGETS = st.sampled_from(["a", "b", "../c", "/a/b", ".", "missing", "a/../../b"])
OWNERS = {
    "uid": st.sampled_from([0, 1000]),
    "gid": st.sampled_from([0, 7]),
    "mode": st.sampled_from([0o600, 0o4711]),
}
XATTRS = st.dictionaries(
    st.sampled_from(["user.a", "user.b", "security.capability", "trusted.c"]), st.just(CAPABILITY), max_size=2
)
ENTRIES = st.one_of(
    st.builds(file, NAMES, st.binary(max_size=3), xattrs=XATTRS, **OWNERS),
    st.builds(directory, NAMES, xattrs=XATTRS, **OWNERS),
    st.builds(link, NAMES, NAMES, xattrs=XATTRS, **OWNERS),
    st.builds(symlink, NAMES, TARGETS),
    st.builds(info, NAMES, st.just(tarfile.FIFOTYPE), **OWNERS),
    st.sampled_from(["a/", "", "a/b/"]).map(lambda where: file(f"{where}.wh.b")),
    st.sampled_from(["a/", "c/a/"]).map(lambda where: file(f"{where}.wh..wh..opq")),
)


@as_root
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=st.lists(ENTRIES, max_size=12))
def test_whatever_is_in_a_layer(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tarfile.TarInfo]
) -> None:
    tmp_path = tmp_path_factory.mktemp("layer")
    tar, volume = tar_of(*entries), Volume(tmp_path, SystemClock())
    try:
        unpack(tar, tmp_path / "unpacked")
    except (Refused, OSError) as error:
        with pytest.raises(LayerRefused):
            raise_refused(volume, tar, error)
        return
    trailer = asyncio.run(convert(volume, tar))
    with mounted(path_of(volume, trailer), tmp_path / "mounted") as found:
        seen = contents(found, times=False)
        seen.pop(".kip", None)
        assert seen == contents(tmp_path / "unpacked", times=False)


def raise_refused(volume: Volume, tar: bytes, refused: Exception) -> None:
    """What containerd refuses, we refuse as well: but for what only system calls find wrong."""
    asyncio.run(convert(volume, tar))
    if isinstance(refused, OSError):
        raise LayerRefused from refused


COMPRESSED = {
    "gzip": gzip.compress,
    "two gzips": lambda tar: gzip.compress(tar[:1000]) + gzip.compress(tar[1000:]),
    "gzip and zeros": lambda tar: gzip.compress(tar) + bytes(512),
    "zstd": zstd.compress,
    "two zstds": lambda tar: zstd.compress(tar[:1000]) + zstd.compress(tar[1000:]),
    "zstd after a skippable frame": lambda tar: b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd" + zstd.compress(tar),
    "nothing": bytes,
}


@pytest.mark.parametrize("how", COMPRESSED)
async def test_every_compression_gives_the_same_file(volume: Volume, how: str) -> None:
    tar = tar_of(*USUAL)
    first = await convert(volume, tar)
    path_of(volume, first).unlink()
    assert await convert(volume, tar, COMPRESSED[how](tar)) == first
    assert left(volume) == [path_of(volume, first)]


@pytest.mark.parametrize("how", COMPRESSED)
async def test_a_blob_that_ends_early_is_told_so_and_leaves_nothing(volume: Volume, how: str) -> None:
    tar = tar_of(*USUAL)
    blob = COMPRESSED[how](tar)
    layer, source = layer_of(tar, blob), Memory({sha256(blob): blob[: len(blob) // 2]})
    with pytest.raises(WrongContent, match="the blob is"):
        await convert_layer(volume, layer, source.opener(layer.digest), chain_id=layer.diff_id)
    assert left(volume) == []


async def test_a_blob_that_is_longer_than_the_manifest_says_is_not_read_on(volume: Volume) -> None:
    tar = tar_of(*USUAL)
    layer, source = layer_of(tar), Memory({sha256(tar): tar + bytes(1 << 20)})
    with pytest.raises(WrongContent, match="more than the"):
        await convert_layer(volume, layer, source.opener(layer.digest), chain_id=layer.diff_id)
    assert left(volume) == []


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ((file("a"), file("a/b")), "a is a file and a directory"),
        ((link("b", "below"),), "hard link to below, which is no file of this layer"),
        ((directory("a"), link("b", "a")), "which is no file of this layer"),
        ((file(".wh.."),), "no name of a whiteout"),
        (
            (file("a", xattrs={"system.posix_acl_access": "x"}),),
            "system.posix_acl_access, which squashfs cannot keep",
        ),
        ((info("a", b"7"),), "of type b'7', which containerd refuses"),
        ((symlink("a", "a"), file("a/b")), "more than 255 symbolic links"),
        ((file("n" * 256),), "a name that is too long for Linux"),
        ((file("n" * 200 + "/" + "n/" * 2000),), "a name that is too long for Linux"),
        ((symlink("a", "n/" * 2048),), "a name that is too long for Linux"),
        (
            (symlink("a", "n/" * 2000), file("a/a"), file("a/" + "m/" * 100)),
            "a path that is too long for Linux",
        ),
        (
            (symlink("a", "n/../" * 800), symlink("b", "a/" * 50), file("b/c")),
            "lead through 4096 directories",
        ),
    ],
)
async def test_layers_that_cannot_be_kept(
    volume: Volume, entries: tuple[tarfile.TarInfo, ...], told: str
) -> None:
    with pytest.raises(CachingError, match=re.escape(told)):
        await convert(volume, tar_of(*entries))
    assert left(volume) == []


async def test_a_layer_of_nobody_elses_may_have_any_names(volume: Volume) -> None:
    owner = {"uid": 7, "gid": 7}
    assert await convert(volume, tar_of(file(".kip", **owner), file(".kip_", **owner)))


async def test_directories_deeper_than_pythons_calls(volume: Volume) -> None:
    """The second entry takes the first one's place, with all that was in it."""
    trailer = await convert(volume, tar_of(file("d/" * 1900 + "a"), file("d")))
    assert await volume.has_layer(trailer.file_id)


async def test_a_layer_whose_names_would_fill_the_memory_is_refused(volume: Volume) -> None:
    limits = replace(ONE, names_bytes=1 << 20)
    names = [file(f"{number:0200}") for number in range(2000)]
    attributes = [file(f"{number}", xattrs={"user.a": "x" * 60_000}) for number in range(20)]
    directories = [file(f"{number}/" + "d/" * 100 + "a") for number in range(50)]
    for entries in (names, attributes, directories):
        assert await convert(volume, tar_of(*entries[: len(entries) // 4]), limits=limits)
        with pytest.raises(LayerRefused, match="names and attributes take more than 1 MiB"):
            await convert(volume, tar_of(*entries), limits=limits)


async def test_the_same_layer_gives_the_same_bytes(volume: Volume) -> None:
    many = [file(f"d{n % 7}/f{n}", os.urandom(n * 37 % 9000) if n % 3 else b"same" * n) for n in range(400)]
    tar = tar_of(*USUAL, *many)
    made = set()
    for processors, piece in ((1, 1000), (2, 1 << 20), (4, 50_000)):
        source, layer = Memory.of(tar), layer_of(tar)
        source.piece = piece
        limits = Limits(processors, 64)
        trailer = await convert_layer(
            volume, layer, source.opener(layer.digest), chain_id=layer.diff_id, limits=limits
        )
        made.add(path_of(volume, trailer).read_bytes())
        path_of(volume, trailer).unlink()
    assert len(made) == 1


async def test_the_hash_tree_is_the_one_that_the_kernel_expects(volume: Volume) -> None:
    tar = tar_of(file("big", os.urandom(3 << 20)))
    trailer = await convert(volume, tar)
    path = path_of(volume, trailer)
    subprocess.run(
        (
            *("veritysetup", "verify", "--no-superblock", f"--data-blocks={trailer.data_bytes // BLOCK}"),
            *(f"--hash-offset={trailer.data_bytes}", f"--salt={trailer.salt}", path, path, trailer.root_hash),
        ),
        check=True,
    )


@pytest.mark.parametrize("how", ["gnu", "0.0", "0.1", "1.0"])
async def test_sparse_files_have_their_holes(volume: Volume, tmp_path: Path, how: str) -> None:
    for number, size in enumerate((0, 5_000_000)):
        with (tmp_path / f"sparse{number}").open("wb") as sparse:
            for at in range(40):
                sparse.seek(at * 100_000 + number * 777)
                sparse.write(os.urandom(1000))
            sparse.truncate(max(size, sparse.tell()))
    kind = ["--format=gnu"] if how == "gnu" else ["--format=posix", f"--sparse-version={how}"]
    tar = tmp_path / "sparse.tar"
    subprocess.run(["tar", "-C", tmp_path, "--sparse", *kind, "-cf", tar, "sparse0", "sparse1"], check=True)
    assert tar.stat().st_size < 500_000, "it has the holes in it"
    trailer = await convert(volume, tar.read_bytes())
    for number in range(2):
        catting = subprocess.run(
            ["unsquashfs", "-cat", path_of(volume, trailer), f"sparse{number}"],
            capture_output=True,
            check=True,
        )
        assert catting.stdout == (tmp_path / f"sparse{number}").read_bytes()


async def test_a_missing_program_is_named(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolMissing, match="squashfs-tools"):
        await convert(volume, tar_of(*USUAL))
    assert left(volume) == []


async def test_an_ended_program_is_told(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "mksquashfs"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho out of luck >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    with pytest.raises(ToolFailed, match="mksquashfs: out of luck"):
        await convert(volume, tar_of(file("big", bytes(4 << 20))))
    assert left(volume) == []


@as_root
async def test_a_full_volume_is_named_and_left_as_it_was(volume: Volume) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "none", volume.root], check=True)
    try:
        with pytest.raises(VolumeFull, match="No space left"):
            await convert(volume, tar_of(file("big", os.urandom(4 << 20))))
        assert left(volume) == []
        assert await convert(volume, tar_of(*USUAL))
    finally:
        subprocess.run(["umount", volume.root], check=True)


async def test_two_at_once_leave_one_file(volume: Volume) -> None:
    tar = tar_of(*USUAL)
    first, second = await asyncio.gather(convert(volume, tar), convert(volume, tar))
    assert first == second
    assert left(volume) == [path_of(volume, first)]


KILLED = """
import asyncio, sys
from pathlib import Path
from kip.images.convert import convert_layer
from kip.images.volume import Volume
from kip.model.clock import SystemClock
from tests.unit.images.layers import Memory, layer_of

async def main():
    tar = Path(sys.argv[2]).read_bytes()
    layer = layer_of(tar)
    print("begun", flush=True)
    blob, volume = Memory.of(tar).opener(layer.digest), Volume(Path(sys.argv[1]), SystemClock())
    await convert_layer(volume, layer, blob, chain_id=layer.diff_id)
    print("done", flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("after", [0.0, 0.05, 0.1, 0.2, 0.4])
async def test_who_is_killed_at_any_moment_leaves_the_volume_right(
    volume: Volume, tmp_path: Path, project: Path, after: float
) -> None:
    (tmp_path / "layer.tar").write_bytes(tar := tar_of(file("big", os.urandom(8 << 20)), *USUAL))
    command = (sys.executable, "-c", KILLED, volume.root, tmp_path / "layer.tar")
    environment = {**os.environ, "PYTHONPATH": f"{project / 'src'}:{project}"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout
        assert process.stdout.readline() == b"begun\n"
        await asyncio.sleep(after)
        process.kill()
    await until(lambda: not programs(volume.root))
    report = await verify(volume, SystemClock())
    assert report.clean, report
    assert await convert(volume, tar)
    assert (await verify(volume, SystemClock())).clean


async def until(condition: Callable[[], bool]) -> None:
    """mksquashfs ends by itself when nobody writes to it any more."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


@as_root
@pytest.mark.parametrize("length", [1, 4, 8])
async def test_the_top_is_roots_though_its_inode_is_in_two_blocks(
    volume: Volume, tmp_path: Path, length: int
) -> None:
    # 255 inodes of 32 bytes and one of 24 and the target's length; a block has 8192.
    trailer = await convert(volume, tar_of(*(file(f"f{n}") for n in range(255)), symlink("s", "t" * length)))
    with mounted(path_of(volume, trailer), tmp_path / "mounted") as found:
        top = found.stat()
        assert (top.st_mode & 0o7777, top.st_uid, top.st_gid, top.st_mtime) == (0o755, 0, 0, 0)
        assert len([*found.iterdir()]) == 256


@as_root
async def test_no_rights_are_needed(volume: Volume, tmp_path: Path, project: Path) -> None:
    """What root's devices, owners and attributes need is written down, not made."""
    (tmp_path / "layer.tar").write_bytes(tar := tar_of(*USUAL))
    volume.root.chmod(0o777)
    for above in (tmp_path, *tmp_path.parents[:2]):
        above.chmod(above.stat().st_mode | 0o711)
    # Only then, since the project's own files may be for root alone.
    program = KILLED.replace(
        "asyncio.run", "os.setgroups([]); os.setgid(65534); os.setuid(65534); asyncio.run"
    )
    command = (sys.executable, "-c", f"import os{program}", volume.root, tmp_path / "layer.tar")
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": f"{project / 'src'}:{project}"})
    unpack(tar, tmp_path / "unpacked")
    with mounted(volume.root / layout.layer_path(sha256(tar)), tmp_path / "mounted") as found:
        assert contents(found, times=False) == contents(tmp_path / "unpacked", times=False)
        assert (found.stat().st_uid, found.stat().st_gid) == (0, 0)


async def test_the_event_loop_goes_on_meanwhile(volume: Volume) -> None:
    tar = tar_of(*(file(f"d{n % 100}/f{n}", b"x" * 100) for n in range(5_000)))
    converting = asyncio.create_task(convert(volume, tar))
    loop, longest = asyncio.get_running_loop(), 0.0
    while not converting.done():
        before = loop.time()
        await asyncio.sleep(0.001)
        longest = max(longest, loop.time() - before)
    await converting
    assert longest < 0.5, "none of the work is in the event loop"
