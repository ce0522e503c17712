"""The controller as it is deployed: what pods use is cached as those pods, and nothing half-made is ever left."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.doubles.registry import layer
from tests.integration.cells.conftest import NODE
from tests.integration.imagecache.conftest import World

from kip.cells.repository import Cells
from kip.images import format as layout
from kip.images.logins import PodLogins
from kip.model.clock import SystemClock
from kip.oci.access import AccessCheck
from kip.oci.client import open_registries
from kip.oci.credentials import ANONYMOUS
from kip.oci.reference import parse

pytestmark = pytest.mark.integration

PRIVATE = "quay.io/team/app:1"
ANN = {"quay.io/team": {"username": "ann", "password": "secret"}}


def large(name: str, size: int = 3_000_000) -> bytes:
    """A layer that does not become smaller."""
    return layer(**{name: os.urandom(size)})


async def test_a_pod_s_image_is_cached_with_its_own_secret_and_for_nobody_else(world: World) -> None:
    world.registry.image(PRIVATE, layer(a=b"1"))
    world.registry.accounts(**ANN)
    await world.secret("pull", **{"quay.io": "ann:secret"})
    await world.secret("wrong", **{"quay.io": "eve:guess"})
    world.start()
    stranger = await world.pod("stranger", PRIVATE, "wrong")
    assert "imagePullSecrets" in await world.event("stranger", "ImageDenied")
    assert await world.volume.references() == ()
    owner = await world.pod("owner", PRIVATE, "pull")
    await world.cached(PRIVATE)
    assert " in " in await world.event("owner", "ImageCached")

    # It is there now. Whether a pod gets it is decided by what its own credentials are worth to the registry.
    mirrors = {"*": [world.registry.url]}
    logins = PodLogins(world.cluster.operator, ANONYMOUS, impersonate=True)
    async with open_registries(SystemClock(), mirrors=mirrors) as registries:
        check = AccessCheck(registries, SystemClock())
        assert (await check.may_pull(parse(PRIVATE), await logins.of(owner))).granted
        refused = await check.may_pull(parse(PRIVATE), await logins.of(stranger))
        assert (refused.granted, refused.reason) == (False, "ImageDenied")


async def test_ready_and_measured(world: World, until: Callable[..., Any]) -> None:
    world.registry.image("quay.io/a:1", layer(a=b"1"))
    running = world.start(images=["quay.io/a:1"])
    await world.cached("quay.io/a:1")

    async def measured() -> bool:
        status, _ = await running.get("/readyz")
        _, text = await running.get("/metrics")
        return status == 200 and 'kip_image_cache_fetches_total{result="cached"} 1.0' in text

    await until("ready, and one image counted", measured, seen=world.said)
    assert await running.ended() == 0


async def test_a_volume_that_goes_away_is_said_and_used_again_when_it_is_back(
    world: World, until: Callable[..., Any]
) -> None:
    world.registry.image("quay.io/a:1", layer(a=b"1"))
    running = world.start()

    async def ready() -> bool:
        return (await running.get("/readyz"))[0] == 200

    async def said() -> bool:
        status, text = await running.get("/readyz")
        return status == 503 and "[-]volume" in text

    await until("ready", ready, seen=world.said)
    away = world.directory.rename(world.work / "away")
    await world.pod("web", "quay.io/a:1")
    await world.event("web", "VolumeUnavailable")
    await until("not ready", said, seen=world.said)
    assert (await running.get("/healthz"))[0] == 200, "to start it again would help nobody"
    away.rename(world.directory)
    await until("ready again", ready, seen=world.said)
    await world.cached("quay.io/a:1", within_s=60)


@pytest.mark.parametrize("how", ["kill", "terminate"])
async def test_an_end_in_the_middle_of_a_conversion_leaves_nothing_half_made(
    world: World, until: Callable[..., Any], how: str
) -> None:
    world.registry.image("quay.io/a:1", layer(done=b"1" * 10), large("a"))
    world.registry.holding = True
    running = world.start(images=["quay.io/a:1"])
    await until("a conversion is under way", world.temporary, seen=world.said)
    if how == "kill":
        running.kill()
    else:
        assert await running.ended() == 0
        assert world.temporary() == []
    assert await world.volume.images() == ()
    assert (await world.verified()).clean

    world.registry.holding = False
    world.registry.held.set()
    world.start(images=["quay.io/a:1"])
    await world.cached("quay.io/a:1")
    report = await world.verified()
    assert (report.clean, report.images, report.layers) == (True, 1, 2), report.findings


async def test_two_controllers_at_once(world: World, until: Callable[..., Any]) -> None:
    base = large("base")
    images = [f"quay.io/team/app{number}:1" for number in range(4)]
    for image in images:
        world.registry.image(image, base, layer(own=image.encode()))
    world.registry.holding = True
    running = [world.start(images=images) for _ in range(2)]

    def both_convert() -> bool:
        return all(world.temporary(each) for each in running)

    async def both_have_ended() -> bool:
        return [sum((await each.fetches()).values()) for each in running] == [len(images)] * 2

    await until("both are in the middle of the same layers", both_convert, timeout_s=60, seen=world.said)
    world.registry.holding = False
    world.registry.held.set()
    # An image is cached when one of them has written it; the other one may be at it still.
    await until("both have seen to every image", both_have_ended, timeout_s=60, seen=world.said)
    for each in running:
        assert set(await each.fetches()) <= {"cached", "present"}, world.said()
    for image in images:
        await world.cached(image)
    report = await world.verified()
    assert (report.clean, report.images, report.layers) == (True, 4, 5), report.findings
    for each in running:
        assert await each.ended() == 0, each.said()
    assert world.temporary() == []


async def test_what_a_cell_was_given_stays_however_old(world: World, until: Callable[..., Any]) -> None:
    given, idle = "quay.io/given:1", "quay.io/idle:1"
    digests = {name: world.registry.image(name, layer(own=name.encode())) for name in (given, idle)}
    first = world.start(images=[given, idle])
    for name in (given, idle):
        await world.cached(name)
    await first.ended()
    for digest in digests.values():
        os.utime(world.directory / layout.image_path(digest), (1, 1))
    cell = await Cells(world.cluster.operator, NODE).create(await world.pod("web", "quay.io/other:1"))
    assert cell is not None
    await Cells(world.cluster.operator, NODE).save(replace(cell, cached_images=(digests[given],)))

    world.start()

    async def evicted() -> bool:
        return await world.volume.reference(idle) is None

    await until("the image that no cell has is taken away", evicted, seen=world.said)
    assert await world.volume.reference(given) is not None
    assert (await world.verified()).clean


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small volume needs root")
async def test_a_full_volume_is_said_and_room_is_made(world: World, until: Callable[..., Any]) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "none", world.directory], check=True)
    try:
        old, new = "quay.io/old:1", "quay.io/new:1"
        world.registry.image(old, large("old", 6_000_000))
        world.registry.image(new, large("new", 7_000_000))
        world.start()
        await world.pod("old", old)
        await world.cached(old)
        await world.cluster.clean()
        await world.pod("new", new)
        assert "maxSize" in await world.event("new", "VolumeFull", within_s=60)
        assert (await world.verified()).clean

        async def evicted() -> bool:
            return await world.volume.reference(old) is None

        await until("the old image is taken away", evicted, timeout_s=30, seen=world.said)
        for path in world.directory.glob(f"{layout.LAYERS}/*/*/*.squashfs"):
            os.utime(path, (1, 1))  # as if its time had passed
        await world.cached(new, within_s=90)
        report = await world.verified()
        assert (report.clean, report.images) == (True, 1), report.findings
    finally:
        for running in world.started:
            running.kill()
        await asyncio.to_thread(subprocess.run, ["umount", world.directory], check=True)
