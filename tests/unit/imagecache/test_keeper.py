"""What is decided is done, on a real directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client import generate_latest
from tests.doubles.registry import LocalRegistry, layer

from kip.imagecache.eviction import GRACE, Limits
from kip.imagecache.fetch import Fetcher
from kip.imagecache.inventory import take
from kip.imagecache.keeper import Keeper
from kip.images import format as layout
from kip.images.volume import Usage, Volume
from kip.kube.errors import Unavailable
from kip.model.clock import ManualClock
from kip.observe.imagecache import ImageCacheMetrics
from kip.oci.credentials import ANONYMOUS
from kip.oci.reference import parse

BASE = layer(base=b"1")
AMD64 = "linux/amd64"


class Bench:
    """Two images that share a layer, `old` not used for 40 days."""

    def __init__(self, registry: LocalRegistry, fetcher: Fetcher, volume: Volume, clock: ManualClock) -> None:
        self.registry, self.fetcher, self.volume, self.clock = registry, fetcher, volume, clock
        self.held: Mapping[str, str] | None = {}
        self.asked: Callable[[], Mapping[str, str]] = lambda: self.held or {}
        self.wanted: list[tuple[str, str]] = []
        self.metrics = ImageCacheMetrics()

    async def add(self, name: str, unused: timedelta) -> str:
        self.registry.image(name, BASE, layer(own=name.encode()))
        digest = (await self.fetcher(parse(name), AMD64, ANONYMOUS)).digest
        self.age(self.volume.root / layout.image_path(digest), unused)
        return digest

    def age(self, path: os.PathLike[str], by: timedelta) -> None:
        moment = (self.clock.now() - by).timestamp()
        os.utime(path, (moment, moment))

    def keeper(self, **limits: object) -> Keeper:
        return Keeper(
            self.volume,
            self.clock,
            Limits(**limits),  # type: ignore[arg-type]
            self.metrics,
            held=lambda: self.held,
            ask=self.ask,
            wanted=lambda: self.wanted,
        )

    async def ask(self) -> Mapping[str, str]:
        return self.asked()

    async def images(self) -> set[str]:
        return {image.digest for image in await self.volume.images()}


@pytest.fixture
def bench(registry: LocalRegistry, fetcher: Fetcher, volume: Volume, clock: ManualClock) -> Bench:
    return Bench(registry, fetcher, volume, clock)


async def test_an_old_image_goes_and_its_own_layer_after_a_while(bench: Bench) -> None:
    old = await bench.add("quay.io/old:1", timedelta(days=40))
    new = await bench.add("quay.io/new:1", timedelta(days=1))
    keeper = bench.keeper(keep_unused=timedelta(days=30))
    tidied = await keeper.tidy()
    assert [removal.what for removal in tidied.plan.images] == [old]
    assert await bench.images() == {new}
    assert [each.reference for each in await bench.volume.references()] == ["quay.io/new:1"]
    assert len(await bench.volume.layers()) == 3

    await bench.clock.advance(GRACE.total_seconds() + 60)
    await keeper.tidy()
    assert len(await bench.volume.layers()) == 2
    assert not (await take(bench.volume)).missing((await bench.volume.images())[0])
    text = generate_latest(bench.metrics.registry).decode()
    assert 'kip_image_cache_evictions_total{what="image"} 1.0' in text
    assert 'kip_image_cache_evictions_total{what="layer"} 1.0' in text
    assert "kip_image_cache_layers 2.0" not in text, "as it was before the layer went"


async def test_what_a_cell_has_stays(bench: Bench) -> None:
    old = await bench.add("quay.io/old:1", timedelta(days=40))
    bench.held = {old: "cell-1"}
    await bench.keeper(keep_unused=timedelta(days=30), max_bytes=1).tidy()
    assert await bench.images() == {old}


async def test_nothing_goes_while_the_cells_are_not_known(bench: Bench) -> None:
    old = await bench.add("quay.io/old:1", timedelta(days=40))
    bench.held = None
    tidied = await bench.keeper(keep_unused=timedelta(days=30)).tidy()
    assert await bench.images() == {old}
    assert "cannot be asked" in tidied.plan.blocked


async def test_what_a_cell_has_of_which_no_news_have_come_stays(bench: Bench) -> None:
    """A watch that is cut off looks like one without news."""
    old = await bench.add("quay.io/old:1", timedelta(days=40))
    bench.asked = lambda: {old: "cell-1"}
    await bench.keeper(keep_unused=timedelta(days=30), max_bytes=1).tidy()
    assert await bench.images() == {old}


async def test_nothing_goes_while_the_api_server_is_away(bench: Bench) -> None:
    def away() -> Mapping[str, str]:
        raise Unavailable("GET cells: no answer")

    old = await bench.add("quay.io/old:1", timedelta(days=40))
    bench.asked = away
    tidied = await bench.keeper(keep_unused=timedelta(days=30)).tidy()
    assert await bench.images() == {old}
    assert tidied.plan.blocked.endswith("GET cells: no answer")


async def test_the_api_server_is_not_asked_while_nothing_would_go(bench: Bench) -> None:
    asked: list[int] = []
    bench.asked = lambda: asked.append(1) or {}  # type: ignore[func-returns-value]
    await bench.add("quay.io/new:1", timedelta(days=1))
    await bench.keeper(keep_unused=timedelta(days=30)).tidy()
    assert not asked


async def test_what_is_wanted_is_marked_as_used(bench: Bench) -> None:
    old = await bench.add("quay.io/old:1", timedelta(days=40))
    bench.wanted = [("quay.io/old:1", AMD64)]
    await bench.keeper(keep_unused=timedelta(days=30)).tidy()
    assert await bench.images() == {old}
    assert bench.clock.now() - (await bench.volume.used())[old] < timedelta(minutes=1)


async def test_another_platform_of_the_same_reference_stays(bench: Bench) -> None:
    digest = await bench.add("quay.io/old:1", timedelta(days=40))
    entry = await bench.volume.reference("quay.io/old:1")
    assert entry is not None
    other = "sha256:" + "0" * 64
    await bench.volume.write_reference(
        layout.Reference(
            entry.reference, entry.digest, {**entry.platforms, "linux/arm64": other}, entry.resolved
        )
    )
    await bench.keeper(keep_unused=timedelta(days=30)).tidy()
    entry = await bench.volume.reference("quay.io/old:1")
    assert entry is not None
    assert entry.platforms == {"linux/arm64": other}
    assert digest not in await bench.images()


async def test_room_is_made_for_what_did_not_find_any(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    old = await bench.add("quay.io/old:1", timedelta(hours=1))
    usage = replace(await bench.volume.usage(), free_bytes=10_000)

    async def fixed() -> Usage:
        return usage

    monkeypatch.setattr(bench.volume, "usage", fixed)
    keeper = bench.keeper()
    tidied = await keeper.tidy(need_bytes=10**9)
    assert await bench.images() == {old}, "it would not fit into an empty cache either"
    assert not tidied.no_room
    tidied = await keeper.tidy(need_bytes=11_000)
    assert await bench.images() == set()
    assert not tidied.no_room


async def test_too_little_free_space_is_said(bench: Bench) -> None:
    tidied = await bench.keeper(min_free_bytes=2**62).tidy()
    assert "have to be" in tidied.no_room


async def test_files_of_the_dead_are_swept(bench: Bench) -> None:
    left = bench.volume.root / "layers/sha256/00/.tmp-host-1-0000"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    bench.age(left, timedelta(days=2))
    young = left.with_name(".tmp-host-2-0000")
    young.write_bytes(b"half")
    await bench.keeper().tidy()
    assert (left.exists(), young.exists()) == (False, True)
