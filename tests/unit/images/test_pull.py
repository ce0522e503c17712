"""Images come onto the volume whole, and what is there is not made twice."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.images.layers import Memory, directory, file, programs, sha256, symlink, tar_of
from tests.unit.images.unpacked import contents, mounted, unpack

from kip.images import format as layout
from kip.images.errors import LayerRefused, WrongContent
from kip.images.format import Image
from kip.images.mksquashfs import Limits
from kip.images.pull import Cached, ImageCache, LayerProgress
from kip.images.volume import Volume
from kip.model.clock import ManualClock
from kip.oci import manifest as oci
from kip.oci.errors import NotAnImage
from kip.oci.manifest import Manifest
from kip.oci.reference import parse

AMD, ARM = "linux/amd64", "linux/arm64"
BASE = tar_of(
    directory("etc", mode=0o750, uid=7, xattrs={"user.a": "1"}),
    file("etc/a", b"a"),
    directory("usr/lib"),
    symlink("lib", "usr/lib"),
)
MIDDLE = tar_of(directory("etc2"), directory("gone"), file(".wh.etc2"))
TOP = tar_of(file("etc/b", b"b"), file("lib/c", b"c"), file("new/d", b"d"))


class Registry(Memory):
    """Images in memory."""

    def image(self, *tars: bytes, architecture: str = "amd64", **more: Any) -> Manifest:
        config = {
            "os": "linux",
            "architecture": architecture,
            "rootfs": {"diff_ids": [*map(sha256, tars)]},
        } | more
        described = {
            "schemaVersion": 2,
            "config": self._blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
            "layers": [self._blob(tar, "application/vnd.oci.image.layer.v1.tar") for tar in tars],
        }
        return self.put(oci.OCI_MANIFEST, described)

    def index(self, *images: tuple[str, Manifest]) -> Manifest:
        entries = [
            {
                "mediaType": each.media_type,
                "digest": each.digest,
                "size": 1,
                "platform": {"os": "linux", "architecture": name},
            }
            for name, each in images
        ]
        return self.put(oci.OCI_INDEX, {"schemaVersion": 2, "manifests": entries})

    def put(self, kind: str, fields: dict[str, Any]) -> Manifest:
        content = json.dumps(fields).encode()
        found = Manifest(oci.digest_of(content), kind, content)
        self.manifests[found.digest] = self.manifests["1"] = self.manifests["2"] = found
        return found

    def _blob(self, content: bytes, kind: str) -> dict[str, Any]:
        self.blobs[sha256(content)] = content
        return {"mediaType": kind, "digest": sha256(content), "size": len(content)}


class Pulls:
    """A cache on a volume of its own."""

    def __init__(self, root: Path, slots: int = 2) -> None:
        root.mkdir(exist_ok=True)
        self.clock = ManualClock()
        self.volume = Volume(root, self.clock)
        self.told: list[LayerProgress] = []
        self.cache = ImageCache(
            self.volume,
            clock=self.clock,
            creator="test",
            slots=asyncio.Semaphore(slots),
            limits=Limits(1, 64),
        )

    async def add(self, registry: Registry, *platforms: str, name: str = "registry.test/app:1") -> Cached:
        return await self.cache.add(parse(name), registry, platforms or (AMD,), self.told.append)


@pytest.fixture
def pulls(tmp_path: Path) -> Pulls:
    return Pulls(tmp_path / "volume")


async def test_an_image_is_found_by_its_name(pulls: Pulls) -> None:
    registry = Registry()
    manifest = registry.image(BASE, MIDDLE)
    cached = await pulls.add(registry)
    found = await pulls.volume.reference("registry.test/app:1")
    assert found == cached.reference
    assert found
    assert (found.digest, found.platforms, found.offered) == (manifest.digest, {AMD: manifest.digest}, (AMD,))
    image = await pulls.volume.image(manifest.digest)
    assert image
    assert (image,) == cached.images
    assert [layer.diff_id for layer in image.layers] == [sha256(BASE), sha256(MIDDLE)]
    assert all([await pulls.volume.has_layer(layer.file_id) for layer in image.layers])
    assert cached.downloaded_bytes == len(BASE) + len(MIDDLE)


async def test_progress_ends_with_the_whole_of_each_layer(pulls: Pulls) -> None:
    registry = Registry()
    registry.piece = 1000
    registry.image(BASE, MIDDLE)
    await pulls.add(registry)
    for tar in (BASE, MIDDLE):
        told = [each.come_bytes for each in pulls.told if each.layer.diff_id == sha256(tar)]
        assert told == sorted(told)
        assert told[0] == 1000
        assert told[-1] == len(tar)


async def test_what_is_there_is_not_downloaded_again(pulls: Pulls) -> None:
    registry = Registry()
    registry.image(BASE)
    first = await pulls.add(registry)
    registry.image(BASE, MIDDLE)
    registry.opened.clear()
    second = await pulls.add(registry, name="registry.test/app:2")
    assert [layer.diff_id for layer in second.converted] == [sha256(MIDDLE)]
    assert sha256(BASE) not in registry.opened
    assert first.converted
    registry.opened.clear()
    again = await pulls.add(registry)
    assert not again.downloaded_bytes
    assert not {sha256(BASE), sha256(MIDDLE)} & {*registry.opened}


@pytest.mark.parametrize(
    ("blob", "told"),
    [
        (tar_of(file("other")), "the layer's tar is"),
        (BASE + bytes(512), "more than the"),
        (b"", "the layer's tar is"),
    ],
)
async def test_no_repository_gets_a_layer_of_anothers_that_it_only_names(
    pulls: Pulls, blob: bytes, told: str
) -> None:
    """Whoever may push an image may write any digests into it."""
    private, hostile = Registry(), Registry()
    private.image(BASE, MIDDLE)
    await pulls.add(private)
    hostile.image(blob, rootfs={"diff_ids": [sha256(BASE)]})
    with pytest.raises(WrongContent, match=told):
        await pulls.add(hostile, name="hostile.test/app:1")
    hostile.image(BASE)  # also under the right digest of its blob
    hostile.blobs[sha256(BASE)] = BASE[:-1] + b"x"
    with pytest.raises(WrongContent, match="the blob is"):
        await pulls.add(hostile, name="hostile.test/app:1")
    assert [each.reference for each in await pulls.volume.references()] == ["registry.test/app:1"]
    assert len(await pulls.volume.images()) == 1


async def test_a_layer_of_another_repository_is_downloaded_once_and_not_made_again(pulls: Pulls) -> None:
    first, second = Registry(), Registry()
    first.image(BASE)
    second.image(BASE, MIDDLE)
    await pulls.add(first)
    pulls.told.clear()
    cached = await pulls.add(second, name="registry.test/other:1")
    assert [layer.diff_id for layer in cached.proved] == [sha256(BASE)]
    assert [layer.diff_id for layer in cached.converted] == [sha256(MIDDLE)]
    assert cached.downloaded_bytes == len(BASE) + len(MIDDLE)
    assert [told.come_bytes for told in pulls.told if told.layer.diff_id == sha256(BASE)][-1] == len(BASE)
    second.opened.clear()
    second.image(BASE)
    assert not (await pulls.add(second, name="registry.test/other:2")).downloaded_bytes
    assert sha256(BASE) not in second.opened


async def test_an_index_is_cached_for_the_platforms_that_are_wanted(pulls: Pulls) -> None:
    registry = Registry()
    amd, arm = registry.image(BASE), registry.image(MIDDLE, architecture="arm64")
    index = registry.index(("amd64", amd), ("arm64", arm))
    await pulls.add(registry, AMD)
    cached = await pulls.add(registry, ARM)
    assert cached.reference.digest == index.digest
    assert cached.reference.platforms == {AMD: amd.digest, ARM: arm.digest}
    assert cached.reference.offered == (AMD, ARM)
    with pytest.raises(NotAnImage, match="the index has linux/amd64, linux/arm64"):
        await pulls.add(registry, "linux/riscv64")


async def test_an_image_of_another_platform_is_not_taken(pulls: Pulls) -> None:
    registry = Registry()
    registry.image(BASE, architecture="s390x")
    with pytest.raises(NotAnImage, match="no image for linux/amd64"):
        await pulls.add(registry)
    assert not await pulls.volume.layers()


async def test_two_images_at_once_convert_what_they_share_once(pulls: Pulls) -> None:
    registry, other = Registry(), Registry()
    registry.image(BASE, MIDDLE)
    other.image(BASE, TOP)
    cached = await asyncio.gather(pulls.add(registry), pulls.add(other, name="registry.test/b:1"))
    assert [*registry.opened, *other.opened].count(sha256(BASE)) == 2
    assert sum(len(each.converted) for each in cached) == 3


async def test_the_same_layer_twice_in_an_image(pulls: Pulls) -> None:
    registry = Registry()
    registry.image(MIDDLE, MIDDLE)
    await pulls.add(registry)
    assert len(await pulls.volume.layers()) == 1


async def test_a_layer_that_fails_ends_the_others_and_leaves_nothing_half_made(pulls: Pulls) -> None:
    registry = Registry()
    wrong = tar_of(file("a", b"1"))
    registry.image(BASE, wrong)
    registry.blobs[sha256(wrong)] = tar_of(file("a", b"2"))
    with pytest.raises(WrongContent, match="the blob is"):
        await pulls.add(registry)
    assert not await pulls.volume.images()
    assert not await pulls.volume.references()
    assert (await pulls.volume.usage()).temporary_bytes == 0
    registry.blobs[sha256(wrong)] = wrong
    await pulls.add(registry)
    assert len(await pulls.volume.layers()) == 2


async def test_one_who_waited_for_another_that_failed_does_it_himself(pulls: Pulls) -> None:
    class Bad(Registry):
        async def blob(self, repository: Any, descriptor: Any) -> Any:
            if descriptor.digest == sha256(BASE):
                begun.set()
                await fail.wait()
            async for piece in super().blob(repository, descriptor):
                yield piece[:-1] if descriptor.digest == sha256(BASE) else piece

    begun, fail, good, bad = asyncio.Event(), asyncio.Event(), Registry(), Bad()
    good.image(BASE)
    bad.image(BASE)
    failing = asyncio.create_task(pulls.add(bad))
    await begun.wait()
    waiting = asyncio.create_task(pulls.add(good))
    fail.set()
    with pytest.raises(WrongContent):
        await failing
    assert (await waiting).converted


async def test_who_is_cancelled_leaves_nothing_running(pulls: Pulls) -> None:
    class Stalled(Registry):
        async def blob(self, repository: Any, descriptor: Any) -> Any:
            async for piece in super().blob(repository, descriptor):
                yield piece
                if descriptor.digest == sha256(BASE):
                    begun.set()
                    await asyncio.Event().wait()

    begun, registry = asyncio.Event(), Stalled()
    registry.piece = 512
    registry.image(BASE)
    adding = asyncio.create_task(pulls.add(registry))
    await begun.wait()
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    assert (await pulls.volume.usage()).temporary_bytes == 0
    assert not programs(pulls.volume.root)
    assert not await pulls.volume.layers()


async def test_a_layer_with_a_wrong_diff_id_is_refused(pulls: Pulls) -> None:
    registry = Registry()
    registry.image(BASE, rootfs={"diff_ids": [sha256(b"another")]})
    with pytest.raises(WrongContent, match="the layer's tar is"):
        await pulls.add(registry)


async def test_a_layer_that_is_no_tar_is_refused(pulls: Pulls) -> None:
    registry = Registry()
    registry.image(b"x" * 2000)
    with pytest.raises(LayerRefused, match="no number of a tar"):
        await pulls.add(registry)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems: needs root")
@pytest.mark.parametrize("slots", [1, 2])
async def test_directories_that_a_layer_does_not_describe_are_as_those_below(
    tmp_path: Path, slots: int
) -> None:
    pulls, registry = Pulls(tmp_path / "volume", slots), Registry()
    registry.image(BASE, MIDDLE, TOP)
    (image,) = (await pulls.add(registry)).images
    assert [bool(layer.chain_id) for layer in image.layers] == [True, False, True]
    assert image == Image.parse(image.to_bytes(), digest=image.digest)
    unpack(BASE, tmp_path / "base")
    unpack(MIDDLE, tmp_path / "middle", [tmp_path / "base"])
    unpack(TOP, tmp_path / "top", [tmp_path / "middle", tmp_path / "base"])
    file_at = pulls.volume.root / layout.layer_path(image.layers[2].file_id)
    with mounted(file_at, tmp_path / "mounted") as found:
        assert contents(found, times=False) == contents(tmp_path / "top", times=False)
        assert (found / "etc").stat().st_uid == 7


@pytest.mark.parametrize("slots", [1, 2, 3])
async def test_no_more_conversions_are_in_memory_than_there_are_slots(tmp_path: Path, slots: int) -> None:
    """Also while they wait for the layers below, whose directories they need."""
    pulls, most = Pulls(tmp_path / "volume", slots), 0

    class Watched(Registry):
        async def blob(self, repository: Any, descriptor: Any) -> Any:
            nonlocal most
            lowest = descriptor.digest == sha256(BASE)
            for _ in range(30 if lowest else 1):  # the others come first, as far as they can
                await asyncio.sleep(0.01)
                most = max(most, len([*pulls.volume.root.rglob(f"{layout.TEMPORARY}*")]))
            async for piece in super().blob(repository, descriptor):
                yield piece

    registry = Watched()
    above = [tar_of(file(f"etc/in-layer-{number}", b"1")) for number in range(8)]
    for image in (above, above[:4]):
        registry.image(BASE, *image)
        async with asyncio.timeout(20):
            await asyncio.gather(pulls.add(registry), pulls.add(registry, name="registry.test/other:1"))
    assert 0 < most <= slots


async def test_a_layer_that_depends_on_those_below_serves_there_alone(pulls: Pulls) -> None:
    registry = Registry()
    registry.image(BASE, TOP)
    await pulls.add(registry)
    registry.image(MIDDLE, TOP)
    (other,) = (cached := await pulls.add(registry)).images
    assert [layer.diff_id for layer in cached.converted] == [sha256(MIDDLE), sha256(TOP)]
    registry.image(TOP)  # the lowest is called by its diffID, and yet does not serve elsewhere
    await pulls.add(registry)
    registry.image(BASE, MIDDLE, TOP)
    assert [layer.diff_id for layer in (await pulls.add(registry)).converted] == [sha256(TOP)]
    assert other.layers[1].chain_id == other.chain[1]


async def test_layers_that_are_used_again_are_made_new(pulls: Pulls) -> None:
    registry = Registry()
    registry.image(MIDDLE)
    await pulls.add(registry)
    (layer,) = await pulls.volume.layers()
    await pulls.clock.advance(86_400 * 365)
    registry.image(MIDDLE, TOP)
    await pulls.add(registry)
    (again,) = (each for each in await pulls.volume.layers() if each.file_id == layer.file_id)
    assert again == replace(layer, modified=pulls.clock.now())
