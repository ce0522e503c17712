"""Images come from a registry onto a volume, and no more than is needed is asked for."""

from __future__ import annotations

import asyncio

import pytest
from tests.doubles.registry import LocalRegistry, as_json, layer

from kip.imagecache.fetch import Fetcher
from kip.images.volume import Volume
from kip.model.clock import ManualClock
from kip.oci.credentials import ANONYMOUS, Credential, Keyring
from kip.oci.errors import Denied, NotAnImage
from kip.oci.manifest import OCI_INDEX, OCI_MANIFEST, Descriptor
from kip.oci.reference import parse

from .conftest import CHECK_AFTER_S

APP = parse("quay.io/team/app:1")
AMD64 = "linux/amd64"
BASE, TOP, OTHER = layer(a=b"1" * 1000), layer(b=b"2"), layer(b=b"3")
ANN = Keyring([("quay.io", Credential("ann", "secret"))])


def asked(registry: LocalRegistry, what: str) -> int:
    return sum(what in line for line in registry.asked)


async def test_an_image_is_fetched_once(
    registry: LocalRegistry, fetcher: Fetcher, volume: Volume, clock: ManualClock
) -> None:
    digest = registry.image(str(APP), BASE, TOP)
    done = await fetcher(APP, AMD64, ANONYMOUS)
    assert (done.digest, done.fetched_bytes) == (digest, len(BASE) + len(TOP))
    before = len(registry.asked)
    assert (await fetcher(APP, AMD64, ANONYMOUS)).fetched_bytes == 0
    assert len(registry.asked) == before, "the registry's answer still counts"
    await clock.advance(CHECK_AFTER_S)
    assert (await fetcher(APP, AMD64, ANONYMOUS)).fetched_bytes == 0
    assert registry.asked[before:] == ["HEAD /v2/team/app/manifests/1?ns=quay.io"]
    entry = await volume.reference(str(APP))
    assert entry is not None
    assert (entry.resolved - clock.now()).total_seconds() == pytest.approx(0, abs=1)


async def test_a_tag_that_has_moved_gets_its_new_image(
    registry: LocalRegistry, fetcher: Fetcher, clock: ManualClock
) -> None:
    old = registry.image(str(APP), BASE, TOP)
    await fetcher(APP, AMD64, ANONYMOUS)
    new = registry.image(str(APP), BASE, OTHER)
    assert (await fetcher(APP, AMD64, ANONYMOUS)).digest == old
    await clock.advance(CHECK_AFTER_S)
    done = await fetcher(APP, AMD64, ANONYMOUS)
    assert (done.digest, done.fetched_bytes) == (new, len(OTHER)), "what both have is not fetched again"


async def test_a_digest_is_never_asked_for_again(
    registry: LocalRegistry, fetcher: Fetcher, clock: ManualClock
) -> None:
    reference = APP.at(registry.image(str(APP), BASE))
    await fetcher(reference, AMD64, ANONYMOUS)
    before = len(registry.asked)
    await clock.advance(10 * CHECK_AFTER_S)
    await fetcher(reference, AMD64, ANONYMOUS)
    assert len(registry.asked) == before


async def test_a_layer_that_has_gone_is_made_anew(
    registry: LocalRegistry, fetcher: Fetcher, volume: Volume
) -> None:
    registry.image(str(APP), BASE, TOP)
    image = await volume.image((await fetcher(APP, AMD64, ANONYMOUS)).digest)
    assert image is not None
    await volume.remove_layer(image.layers[1].file_id)
    assert (await fetcher(APP, AMD64, ANONYMOUS)).fetched_bytes == len(TOP)
    assert await volume.has_layer(image.layers[1].file_id)


async def test_a_private_image_is_fetched_by_those_who_may(
    registry: LocalRegistry, fetcher: Fetcher, volume: Volume
) -> None:
    registry.image(str(APP), BASE)
    registry.accounts(**{"quay.io/team": {"username": "ann", "password": "secret"}})
    with pytest.raises(Denied):
        await fetcher(APP, AMD64, ANONYMOUS)
    assert await volume.references() == ()
    assert (await fetcher(APP, AMD64, ANN)).fetched_bytes


async def test_two_platforms_of_one_image_at_once(
    registry: LocalRegistry, fetcher: Fetcher, volume: Volume
) -> None:
    entries = []
    for architecture in ("amd64", "arm64"):
        own = registry.image(f"quay.io/team/app:{architecture}", BASE, architecture=architecture)
        described = Descriptor(OCI_MANIFEST, own, registry.store.blob(own).stat().st_size)
        entries.append(as_json(described, platform={"os": "linux", "architecture": architecture}))
    registry.manifest(str(APP), {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    await asyncio.gather(*(fetcher(APP, f"linux/{name}", ANONYMOUS) for name in ("amd64", "arm64")))
    entry = await volume.reference(str(APP))
    assert entry is not None
    assert sorted(entry.platforms) == ["linux/amd64", "linux/arm64"]


async def test_an_image_for_other_machines(registry: LocalRegistry, fetcher: Fetcher) -> None:
    registry.image(str(APP), BASE, architecture="arm64")
    with pytest.raises(NotAnImage, match="amd64"):
        await fetcher(APP, AMD64, ANONYMOUS)
