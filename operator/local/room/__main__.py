"""The machine room's daemon: `python -m kip.local.room --world NAME`, started by the world."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
import sys

import aiohttp
import click

from kip.local import build, packages
from kip.local.images import DEVICE_PLUGIN, build_all
from kip.local.network import Network
from kip.local.progress import Silent
from kip.local.room.ami import Ami, Sources, prepare
from kip.local.room.cleanup import only_room, say_ready
from kip.local.room.imds import MetadataService, serve
from kip.local.room.instances import ControlApi
from kip.local.room.preflight import allow_many_machines, check_host
from kip.local.room.room import Room
from kip.local.volume.control import make as make_volume
from kip.local.world import World, WorldError

log = logging.getLogger("kip.local.room")


def sources(world: World) -> Sources:
    """What the world's machine image is made of; programs are compiled if they were not yet."""
    progress = Silent()
    kubernetes, containerd, volume = (
        build.ensure(what, progress) for what in (build.KUBERNETES, build.CONTAINERD, build.VOLUME)
    )
    binaries = {name: containerd / name for name in build.CONTAINERD.programs}
    binaries |= {name: volume / name for name in build.VOLUME.programs}
    images = build_all(world.state / "room-images")
    # Pulled by the few machines that need it, as on EC2.
    del images[DEVICE_PLUGIN]
    return Sources(binaries={**binaries, "kubelet": kubernetes / "kubelet"}, images=images)


async def run(world: World) -> None:
    """Runs the world's room until SIGTERM or SIGINT; its machines run on.

    Raises:
        WorldError: no machine can be booted here, another room runs, or the machine image cannot be made.
        OSError: the metadata service's address is taken, or the world's network is not up.
    """
    check_host(world)
    allow_many_machines()
    make_volume(world)
    with only_room(world):
        images = world.state / "ami"
        ami = await asyncio.to_thread(prepare, images, sources(world))
        async with aiohttp.ClientSession() as session:
            room = Room(world, ami, ControlApi(session, world.url("aws")))
            room.adopt()
            _forget_old_images(ami, room.images_in_use())
            metadata = await serve(MetadataService(room.instance_at), Network(world))
            try:
                await _until_signalled(room, world)
            finally:
                await room.close()
                await metadata.cleanup()


async def _until_signalled(room: Room, world: World) -> None:
    following = asyncio.create_task(room.follow())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, following.cancel)
    say_ready(world)
    log.info("ready: %s", world.name)
    with contextlib.suppress(asyncio.CancelledError):
        await following


def _forget_old_images(current: Ami, in_use: set[str]) -> None:
    for other in current.directory.parent.iterdir():
        if other.name not in {current.directory.name, *in_use}:
            shutil.rmtree(other)


@click.command()
@click.option("--world", "name", required=True, help="Name of a world that was made.")
def main(name: str) -> None:
    """Boots every running instance of the world's EC2 endpoint."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)-7s %(message)s"
    )
    packages.complete_path()
    world = World.find(name)
    if world is None:
        raise click.ClickException(f"there is no world {name!r}; make it with `kip local up`")
    try:
        asyncio.run(run(world))
    except (WorldError, build.BuildError, OSError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
