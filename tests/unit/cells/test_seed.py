"""Seeding a cell before its pod is shown: in which order, within which time, and what is said of it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.images.test_seeding import AMD, NOW, digest, image, trailer

from kip.cells.link import Link
from kip.cells.seed import Seeder
from kip.images import format as layout
from kip.images.format import BLOCK, Image
from kip.model.cell import SEEDED, Cell, new_cell_object
from kip.model.clock import ManualClock
from kip.oci import manifest as oci
from kip.oci.access import Access
from kip.oci.errors import Unreachable as RegistryUnreachable
from kip.oci.manifest import Manifest
from kip.oci.reference import parse
from kip.tunnel.errors import Unreachable
from kip.tunnel.volume import VolumeSilent

WEB = parse("registry.test/web:1")
POD = {
    "metadata": {"name": "web", "namespace": "shop", "uid": "u-1"},
    "spec": {"nodeName": "n", "containers": [{"name": "main", "image": "registry.test/web:1"}]},
}


class Volume:
    """What is on it, as a cell's script would print it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.layers: set[str] = set()

    def put(self, found: Image, top: str = "", *, without: str = "") -> None:
        reference = layout.Reference(str(WEB), top or found.digest, {AMD: found.digest}, NOW)
        self.files[str(layout.reference_path(str(WEB)))] = reference.to_bytes()
        self.files[str(layout.image_path(found.digest))] = found.to_bytes()
        self.layers |= {layer.file_id for layer in found.layers} - {digest(without)}

    def look(self, paths: Sequence[str]) -> bytes:
        files = {path.rpartition("/")[2]: self.files[path] for path in paths if path in self.files}
        named = b"".join(files.values()).decode()
        layers = [id_ for id_ in sorted(self.layers) if id_ in named or str(layout.layer_path(id_)) in paths]
        sizes = [f"{len(text)} {name}\n" for name, text in files.items()]
        listed = [f"{trailer(id_).file_bytes} {layout.layer_path(id_)}\n" for id_ in layers]
        text = "".join(["x86_64\n\n", *sizes, "\n"]).encode() + b"".join(files.values())
        text += "".join([*listed, "\n"]).encode() + b"".join(trailer(id_).to_bytes() for id_ in layers)
        assert all(len(trailer(id_).to_bytes()) == BLOCK for id_ in layers)
        return gzip.compress(text)


class Outside:
    """The cell, the registry, the API server, and the people who are told."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.volume = Volume()
        self.did: list[str] = []
        self.told: list[str] = []
        self.outcomes: list[tuple[str, int]] = []
        self.answer: Callable[[], Access] = lambda: Access(reason="ImageDenied", message="no")
        self.registry: dict[str, Any] = {}
        self.break_at = ""
        self.link = Link(cell(), since=0.0)
        self.link.tunnel = self  # type: ignore[assignment]
        self.link.connected_at = self.clock.monotonic()

    def seeder(self) -> Seeder:
        return Seeder(
            self,
            self.clock,
            save=self.save,
            report=self,
            told=self,
            deadline_s=3.0,  # type: ignore[arg-type]
        )

    async def seed(self) -> Cell:
        return await self.seeder()(cell(), POD, self.link)

    # The tunnel.

    async def look_at_volume(self, paths: Sequence[str], *, timeout_s: float) -> bytes:
        self._step("look", timeout_s)
        return self.volume.look(paths)

    async def mount_layers(self, orders: bytes, *, timeout_s: float) -> str:
        self._step("mount", timeout_s)
        words = [line.split()[:2] for line in orders.decode().splitlines()]
        return "\n".join(" ".join(pair) for pair in words if pair[0] in ("snapshot", "import"))

    def _step(self, what: str, timeout_s: float) -> None:
        assert 0 < timeout_s < 3
        self.did.append(what)
        if self.break_at == f"{what} {self.did.count(what)}":
            raise VolumeSilent("reading from the image cache", timeout_s)

    # The registry.

    async def access(self, pod: Any, reference: Any) -> Access:
        await asyncio.sleep(0)
        return self.answer()

    async def index(self, pod: Any, reference: Any) -> Manifest:
        return self._known(reference.digest)

    async def image(self, pod: Any, reference: Any, platform: str) -> tuple[Image, Manifest | None]:
        return self._known(reference.digest), None

    def _known(self, name: str) -> Any:
        if name not in self.registry:
            raise RegistryUnreachable("away")
        return self.registry[name]

    # The rest.

    async def save(self, changed: Cell) -> Cell:
        self.did.append(f"save {len(changed.cached_images)}")
        return changed

    async def progress(self, pod: Any, reason: str, message: str) -> None:
        self.told.append(f"{reason}: {message}")

    async def warning(self, pod: Any, reason: str, message: str) -> None:
        self.told.append(f"{reason}! {message}")

    def seeded(self, outcome: str, saved_bytes: int) -> None:
        self.outcomes.append((outcome, saved_bytes))

    def took(self, seconds: float) -> None:
        self.did.append("took")


def cell() -> Cell:
    obj = new_cell_object(POD)
    obj["metadata"] |= {"uid": "c-1", "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return replace(Cell.from_object(obj), instance_id="i-1", address="10.0.0.4")


@pytest.fixture
async def outside() -> Outside:
    return Outside()


def condition(seeded: Cell) -> tuple[str, str]:
    found = seeded.conditions.get(SEEDED)
    assert found
    return found.status, found.reason


async def test_the_cell_says_which_images_it_has_before_they_are_looked_at(outside: Outside) -> None:
    web = image("a", "b")
    outside.volume.put(web)
    outside.answer = lambda: Access(web.digest)
    seeded = await outside.seed()
    assert outside.did == ["look", "save 1", "look", "mount", "took"]
    assert seeded.cached_images == (web.digest,)
    assert condition(seeded) == ("True", "Cached")
    assert outside.told == [
        "ImagesSeeded: registry.test/web:1: all 2 layers from the cache, 2.0 MB not downloaded"
    ]
    assert outside.outcomes == [("cached", 2_000_000)]


async def test_what_a_cell_was_given_before_is_kept_though_nobody_asks_for_it_now(outside: Outside) -> None:
    """It may have those layers mounted: the connection broke off then, or the tag has moved."""
    web = image("a")
    outside.volume.put(web)
    outside.answer = lambda: Access(web.digest)
    before = replace(cell(), cached_images=(digest("older"),))
    seeded = await outside.seeder()(before, POD, outside.link)
    assert set(seeded.cached_images) == {web.digest, digest("older")}
    assert condition(seeded) == ("True", "Cached")


async def test_a_cell_is_seeded_once_for_each_connection(outside: Outside) -> None:
    await outside.seed()
    before = [*outside.did]
    await outside.seed()
    assert outside.did == before


async def test_what_is_not_cached_costs_one_look_and_no_write(outside: Outside) -> None:
    seeded = await outside.seed()
    assert outside.did == ["look", "took"]
    assert condition(seeded) == ("False", "NotCached")
    assert outside.told == ["ImagesNotCached: registry.test/web:1: not in the cache"]


async def test_a_private_image_is_not_given_to_a_pod_that_may_not_pull_it(outside: Outside) -> None:
    outside.volume.put(image("a"))
    seeded = await outside.seed()
    assert outside.did == ["look", "took"]
    assert seeded.cached_images == ()
    assert condition(seeded) == ("False", "AccessNotGranted")
    assert outside.told == ["ImageCacheNotUsed! registry.test/web:1: ImageDenied: no"]


async def test_a_registry_that_does_not_answer_costs_the_deadline_and_no_more(outside: Outside) -> None:
    outside.volume.put(image("a"))
    seeder = outside.seeder()
    outside.access = lambda pod, reference: asyncio.Event().wait()  # type: ignore[method-assign, assignment]
    async with asyncio.timeout(5):
        seeded = await seeder(cell(), POD, outside.link)
    assert condition(seeded) == ("False", "DeadlinePassed")


async def test_registries_are_asked_while_the_machine_boots(outside: Outside) -> None:
    asked = []
    outside.answer = lambda: asked.append(1) or Access(reason="ImageDenied")  # type: ignore[func-returns-value]
    seeder = outside.seeder()
    for _ in range(3):
        seeder.begin(POD)
        await asyncio.sleep(0.01)
    await seeder(cell(), POD, outside.link)
    assert asked == [1]


@pytest.mark.parametrize(
    ("at", "told"),
    [("look 1", "the cache was not read"), ("look 2", "not looked at yet"), ("mount 1", "has not answered")],
)
async def test_a_volume_that_does_not_answer_is_told_and_the_pod_goes_on(
    outside: Outside, at: str, told: str
) -> None:
    web = image("a")
    outside.volume.put(web)
    outside.answer = lambda: Access(web.digest)
    outside.break_at = at
    seeded = await outside.seed()
    assert seeded.conditions.get(SEEDED)
    [said] = outside.told
    assert said.startswith("ImageCacheNotUsed! ")
    assert told in said
    assert "reading from the image cache: not done after" in said


async def test_a_connection_that_is_lost_meanwhile_says_nothing(outside: Outside) -> None:
    async def lost(paths: Sequence[str], *, timeout_s: float) -> bytes:
        outside.link.tunnel = None
        raise Unreachable("lost")

    outside.look_at_volume = lost  # type: ignore[method-assign]
    seeded = await outside.seed()
    assert seeded.conditions.get(SEEDED) is None
    assert (outside.told, outside.link.seeded) == ([], False)


async def test_a_cell_that_cannot_say_what_it_has_gets_nothing(outside: Outside) -> None:
    """As with the CustomResourceDefinition of an older version, which prunes the field."""
    web = image("a")
    outside.volume.put(web)
    outside.answer = lambda: Access(web.digest)
    seeder = Seeder(
        outside,
        outside.clock,
        save=lambda changed: outside.save(replace(changed, cached_images=())),
        report=outside,
        told=outside,
        deadline_s=3.0,
    )
    seeded = await seeder(cell(), POD, outside.link)
    assert "mount" not in outside.did
    assert condition(seeded) == ("False", "CacheBroken")
    assert "CustomResourceDefinition" in outside.told[0]


async def test_a_pod_with_a_user_namespace_pulls(outside: Outside) -> None:
    outside.volume.put(image("a"))
    pod = {**POD, "spec": {**POD["spec"], "hostUsers": False}}
    assert await outside.seeder()(cell(), pod, outside.link) == cell()
    assert outside.did == []


async def test_of_a_tag_that_has_moved_the_registry_says_what_it_is(outside: Outside) -> None:
    old, new = image("a", "b"), image("a", "c")
    outside.volume.put(old)
    outside.answer = lambda: Access(new.digest)
    outside.registry[new.digest] = new
    seeded = await outside.seed()
    assert seeded.cached_images == (new.digest,)
    assert condition(seeded) == ("False", "PartlyCached")
    assert outside.outcomes == [("partly", 1_000_000)]


async def test_an_index_comes_from_the_registry_and_its_want_does_not_matter(outside: Outside) -> None:
    web = image("a")
    index = Manifest(oci.digest_of(b"index"), oci.OCI_INDEX, b"index")
    for known in ({index.digest: index}, {}):
        outside.volume.put(web, index.digest)
        outside.answer = lambda: Access(index.digest)
        outside.registry = known
        outside.link.seeded = False
        seeded = await outside.seed()
        assert condition(seeded) == ("True", "Cached")
