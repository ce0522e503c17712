"""Files come onto the volume whole and go from it alone, whoever else is writing."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path, PurePosixPath

import pytest
from tests.unit.images.test_format import NOW, TRAILER, A, B, image

from kip.images import format as layout
from kip.images.errors import VolumeFull, VolumeUnavailable
from kip.images.format import BLOCK, Reference
from kip.images.volume import Volume, layer_at, needed_layers
from kip.model.clock import ManualClock, SystemClock

LAYER = b"d" * 4 * BLOCK + TRAILER.to_bytes()
NGINX = Reference("docker.io/library/nginx:1", A, {"linux/amd64": B}, NOW)


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path, SystemClock())


def put(volume: Volume, path: PurePosixPath, content: bytes) -> bool:
    with volume.temporary(path) as temporary:
        temporary.write_bytes(content)
        return volume.publish(temporary, path, lambda: volume.trailer(A) is not None)


def names(volume: Volume) -> list[str]:
    return sorted(str(path.relative_to(volume.root)) for path in volume.root.rglob("*") if path.is_file())


async def test_an_empty_volume_has_nothing(volume: Volume) -> None:
    assert not await volume.has_layer(A)
    assert await volume.image(A) is None
    assert await volume.reference("a") is None
    assert (*await volume.images(), *await volume.references(), *await volume.layers()) == ()
    assert not await volume.remove_layer(A)


async def test_what_is_written_is_found(volume: Volume) -> None:
    await volume.write_image(image())
    await volume.write_reference(NGINX)
    put(volume, layout.layer_path(A), LAYER)
    assert await volume.image(image().digest) == image()
    assert await volume.images() == (image(),)
    assert await volume.reference(NGINX.reference) == NGINX
    assert await volume.references() == (NGINX,)
    assert [(each.file_id, each.file_bytes) for each in await volume.layers()] == [(A, len(LAYER))]
    assert await volume.layer(A) == TRAILER
    usage = await volume.usage()
    assert (usage.layers, usage.layers_bytes, usage.images, usage.references) == (1, len(LAYER), 1, 1)
    assert usage.free_bytes > 0


async def test_what_is_removed_is_gone(volume: Volume) -> None:
    await volume.write_image(image())
    await volume.write_reference(NGINX)
    put(volume, layout.layer_path(A), LAYER)
    assert await volume.remove_reference(NGINX.reference)
    assert await volume.remove_image(image().digest)
    assert await volume.remove_layer(A)
    assert names(volume) == []


async def test_a_reference_that_is_written_again_replaces(volume: Volume) -> None:
    await volume.write_reference(NGINX)
    await volume.write_reference(replace(NGINX, digest=B))
    assert await volume.references() == (replace(NGINX, digest=B),)


async def test_half_a_layer_is_none(volume: Volume) -> None:
    put(volume, layout.layer_path(A), LAYER[:-1])
    assert not await volume.has_layer(A)


def test_of_two_writers_the_first_one_counts(volume: Volume) -> None:
    path = layout.layer_path(A)
    assert put(volume, path, LAYER)
    inode = (volume.root / path).stat().st_ino
    assert not put(volume, path, LAYER)
    assert (volume.root / path).stat().st_ino == inode
    assert names(volume) == [str(path)]


async def test_a_file_that_is_not_right_is_replaced(volume: Volume) -> None:
    put(volume, layout.layer_path(A), b"half")
    assert put(volume, layout.layer_path(A), LAYER)
    assert await volume.has_layer(A)


def test_a_link_that_was_made_though_the_answer_was_lost_is_ours(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    assert put(volume, layout.layer_path(A), LAYER)
    assert names(volume) == [str(layout.layer_path(A))]


async def test_a_file_system_without_links_gets_a_rename(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no links")

    monkeypatch.setattr(os, "link", refuse)
    assert put(volume, layout.layer_path(A), LAYER)
    assert await volume.has_layer(A)


async def test_a_stale_handle_is_looked_up_again(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    put(volume, layout.layer_path(A), LAYER)
    stale, fstat = [errno.ESTALE], os.fstat

    def sometimes(descriptor: int) -> os.stat_result:
        if stale:
            raise OSError(stale.pop(), "stale file handle")
        return fstat(descriptor)

    monkeypatch.setattr(os, "fstat", sometimes)
    assert await volume.has_layer(A)


async def test_a_directory_that_cannot_be_read_now_is_not_an_empty_one(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without images no layer is needed."""
    (volume.root / layout.IMAGES).mkdir(parents=True)

    def stale(path: object) -> object:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(os, "scandir", stale)
    with pytest.raises(VolumeUnavailable, match="Stale file handle"):
        await volume.images()


async def test_what_an_nfs_client_keeps_of_a_removed_file_is_none(volume: Volume) -> None:
    put(volume, layout.layer_path(A), LAYER)
    for top in (layout.INDEX / "aa", layout.IMAGES, layout.layer_path(A).parent):
        (volume.root / top).mkdir(parents=True, exist_ok=True)
        (volume.root / top / ".nfs00000000000004d200000001").write_bytes(b"")
    usage = await volume.usage()
    assert (usage.layers, usage.images, usage.references) == (1, 0, 0)


async def test_a_layer_that_is_evicted_while_it_is_renewed_is_not_there(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(volume, layout.layer_path(A), LAYER)
    utime = os.utime

    def evicted(path: Path, *times: object) -> None:
        path.unlink()
        utime(path, *times)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "utime", evicted)
    assert await volume.renew_layer(A) is None


def test_a_file_that_is_evicted_while_another_comes_makes_room_for_it(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = volume.root / layout.layer_path(A)

    def exists_no_more(source: Path, target: Path) -> None:
        assert not final.exists()
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    monkeypatch.setattr(os, "link", exists_no_more)
    with volume.temporary(layout.layer_path(A)) as temporary:
        temporary.write_bytes(LAYER)
        assert volume.publish(temporary, layout.layer_path(A), final.exists)
    assert final.exists()


async def test_only_what_is_long_abandoned_is_swept(tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    volume = Volume(tmp_path, clock)
    old, new = tmp_path / "layers/sha256/aa/.tmp-old", tmp_path / "images/.tmp-new"
    for path, age in ((old, 25), (new, 23)):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half")
        moment = (clock.now() - timedelta(hours=age)).timestamp()
        os.utime(path, (moment, moment))
    assert [str(path) for path in await volume.sweep()] == ["layers/sha256/aa/.tmp-old"]
    assert (await volume.usage()).temporary_bytes == 4
    assert names(volume) == ["images/.tmp-new"]


async def test_a_volume_that_is_not_there_is_not_an_empty_one(tmp_path: Path) -> None:
    volume = Volume(tmp_path / "missing", SystemClock())
    with pytest.raises(VolumeUnavailable, match=r"cannot list images on .*missing: No such file"):
        await volume.images()
    with pytest.raises(VolumeUnavailable):
        await volume.write_image(image())


async def test_a_full_volume_says_so_and_keeps_what_it_had(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    await volume.write_reference(NGINX)
    before = names(volume)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(VolumeFull, match="cannot write a reference"):
        await volume.write_reference(replace(NGINX, digest=B))
    assert names(volume) == before
    assert await volume.references() == (NGINX,)


@pytest.mark.parametrize(
    "wrong",
    ["layers/x", f"layers/sha256/00/{A[7:]}.squashfs", f"layers/sha256/{A[7:9]}/{A[7:]}", "layers/.tmp-a"],
)
def test_other_files_are_no_layers(wrong: str) -> None:
    assert layer_at(PurePosixPath(wrong)) is None
    assert layer_at(layout.layer_path(A)) == A


def test_layers_are_needed_by_images() -> None:
    assert needed_layers([image(), image()]) == {A, B}


async def test_when_something_was_last_needed_is_kept_with_it(volume: Volume) -> None:
    await volume.write_image(image())
    put(volume, layout.layer_path(A), LAYER)
    paths = [volume.root / layout.image_path(image().digest), volume.root / layout.layer_path(A)]
    for path in paths:
        os.utime(path, (1000, 1000))
    assert {digest: moment.timestamp() for digest, moment in (await volume.used()).items()} == {
        image().digest: 1000
    }
    await volume.mark_used([image().digest, B])
    await volume.mark_needed([A, B])
    assert all(path.stat().st_mtime > 1000 for path in paths)
