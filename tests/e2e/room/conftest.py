"""A world with a network, a room daemon that can be killed, and an EC2 endpoint that is one dictionary."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import yaml
from aiohttp import web

from kip.local import lifecycle
from kip.local.network import Network
from kip.local.processes import NAME_MARK, STATE_MARK
from kip.local.room import machine, traces
from kip.local.room.cleanup import cleanup_all, said_ready
from kip.local.room.machine import Booted
from kip.local.world import World


@pytest.fixture(scope="session")
def world(reserved: Callable[[str], str]) -> Iterator[World]:
    """A world with nothing but its network; the machine image is made by the first room in it."""
    name = reserved("roomtest")
    lifecycle.down(name)  # what a killed session left
    try:
        world = World.open(name)
        Network(world).up()
        yield world
    finally:
        lifecycle.down(name)


async def until(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    """What the condition returns as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what}")
        await asyncio.sleep(0.02)
    return found


class Endpoint:
    """The EC2 endpoint's control API."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._changed = asyncio.Event()
        self._revision = 1
        self.instances: dict[str, dict[str, Any]] = {}
        self.reports: list[tuple[str, str, str]] = []

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Answers at the world's address for AWS."""
        application = web.Application()
        application.router.add_get("/_kip/instances", self._list)
        application.router.add_post("/_kip/instances/{id}/state", self._state)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, *self._world.address("aws"), reuse_address=True).start()
            yield
        finally:
            await runner.cleanup()

    def run(self, number: int, user_data: bytes, **changes: Any) -> str:
        """A running instance with the number's addresses; returns its id."""
        address = self._world.cidr[10 + number]
        instance_id = f"i-{number:017x}"
        self.instances[instance_id] = {
            "id": instance_id,
            "state": "running",
            "type": "t3.medium",
            "vcpus": 4,
            "memory_mib": 1024,
            "private_ip": str(address),
            "secondary_ips": [str(self._world.cidr[100 + number])],
            "mac": ":".join(["02", "00", *(f"{byte:02x}" for byte in address.packed)]),
            "subnet_cidr": str(self._world.cidr),
            "vpc_cidr": str(self._world.cidr),
            "zone": "us-east-1a",
            "shutdown_behavior": "terminate",
            "user_data_b64": base64.b64encode(user_data).decode(),
        } | changes
        self.change()
        return instance_id

    def terminate(self, instance_id: str) -> None:
        """As TerminateInstances does."""
        self.instances[instance_id]["state"] = "terminated"
        self.change()

    def change(self) -> None:
        """Makes a new revision."""
        self._revision += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def _list(self, request: web.Request) -> web.Response:
        if request.query.get("revision") == str(self._revision):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), float(request.query["wait"]))
        return web.json_response({"revision": self._revision, "instances": list(self.instances.values())})

    async def _state(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.reports.append((request.match_info["id"], body["state"], body["reason"]))
        self.instances[request.match_info["id"]]["state"] = body["state"]
        self.change()
        return web.json_response({})


class Daemon:
    """`python -m kip.local.room`, as the world starts it."""

    def __init__(self, world: World, log: Path) -> None:
        self._world = world
        self._log = log
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns when the room is ready."""
        # By these the end of the world finds it, should this session be killed.
        marks = {NAME_MARK: self._world.name, STATE_MARK: str(self._world.state.parent)}
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *[sys.executable, "-m", "kip.local.room", "--world", self._world.name],
                stdout=log,
                stderr=log,
                env={**os.environ, **marks},
            )
        process = self.process
        await until(
            lambda: said_ready(self._world) == process.pid or process.returncode is not None,
            "room ready",
            150,
        )
        assert process.returncode is None, self._log.read_text()

    async def kill(self) -> None:
        """kill -9."""
        if self.process and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    def said(self) -> str:
        """All that it logged."""
        return self._log.read_text()


class Keys:
    """The key pairs that user data brings: the machine's, and its visitor's."""

    def __init__(self) -> None:
        self.host = asyncssh.generate_private_key("ssh-ed25519")
        self.visitor = asyncssh.generate_private_key("ssh-ed25519")

    def user_data(self, **settings: Any) -> bytes:
        """A cloud-config with which the visitor can log in as root."""
        config = {
            "ssh_keys": {"ed25519_private": self.host.export_private_key().decode()},
            "ssh_authorized_keys": [self.visitor.export_public_key().decode().strip()],
            "disable_root": False,
            **settings,
        }
        return b"#cloud-config\n" + yaml.safe_dump(config).encode()

    async def run(self, address: str, command: str, user: str = "root") -> str:
        """What the command says on the machine with that address, as soon as its sshd answers."""
        deadline = time.monotonic() + 60
        while True:
            try:
                async with asyncssh.connect(
                    address,
                    username=user,
                    client_keys=[self.visitor],
                    known_hosts=([self.host.convert_to_public()], [], []),
                    config=None,
                ) as connection:
                    done = await connection.run(command, check=True, timeout=20)
                    return str(done.stdout).strip()
            except (OSError, asyncssh.DisconnectError):
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)


class Lab:
    """All of it together, for one test."""

    def __init__(self, world: World, endpoint: Endpoint, log: Path) -> None:
        self.world = world
        self.endpoint = endpoint
        self.daemon = Daemon(world, log)
        self.keys = Keys()

    def run(self, number: int, settings: Mapping[str, Any] | None = None, **changes: Any) -> str:
        """An instance that the visitor can log in to, with more cloud-config and other facts; its id."""
        return self.endpoint.run(number, self.keys.user_data(**(settings or {})), **changes)

    async def ssh(self, instance_id: str, command: str, user: str = "root") -> str:
        """What the command says on the instance's machine, as soon as it answers."""
        return await self.keys.run(self.endpoint.instances[instance_id]["private_ip"], command, user)

    async def booted(self, instance_id: str) -> Booted:
        """The instance's machine as soon as it runs."""
        found: Booted = await until(lambda: machine.running(self.world, instance_id), f"{instance_id} booted")
        return found

    async def gone(self, instance_id: str, seconds: float = 20.0) -> None:
        """Returns when nothing of the instance's machine is there."""
        await until(lambda: not machine.remains(self.world, instance_id), f"{instance_id} gone", seconds)

    async def until(self, condition: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
        """What the condition returns as soon as that is true."""
        return await until(condition, what, seconds)

    def console(self, instance_id: str) -> str:
        """What EC2 would show as the instance's console output."""
        return machine.layout(self.world, instance_id).console.read_text()

    def left(self) -> list[str]:
        """Everything on this host that is a machine's of this world."""
        return left(self.world)


@pytest.fixture
async def lab(world: World, tmp_path: Path) -> AsyncIterator[Lab]:
    """A room that is ready; after the test every trace of its machines is removed, and looked for."""
    endpoint = Endpoint(world)
    async with endpoint.serve():
        lab = Lab(world, endpoint, tmp_path / "room.log")
        try:
            await lab.daemon.start()
            yield lab
        finally:
            await lab.daemon.kill()
            await asyncio.to_thread(cleanup_all, world)
        assert lab.left() == []


def left(world: World) -> list[str]:
    """Everything on this host that is a machine's of that world, found without asking the room."""
    found = [f"machine {name}: {machine.remains(world, name)}" for name in machine.present(world)]
    found += [f"cgroup {path}" for path in traces.cgroup_directories(world.cgroup)]
    found += [f"mount {path}" for path in traces.mounts_below(world.cells)]
    own = Network(world).namespace_path
    found += [f"namespace {path}" for path in world.namespaces.iterdir() if path != own]
    found += [f"directory {path}" for path in (world.cells, world.runc_root) if path.exists()]
    found += [f"loop device {name}" for name in traces.loop_devices_below(world.state)]
    found += [f"port {line}" for line in _ports(world)]
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                # A process of a machine is in its cgroup, or has its files as root or mounted.
                told = (entry / "cgroup").read_text() + (entry / "mountinfo").read_text()
                if f"/{world.cgroup}/" in told or str(world.cells) in told:
                    found.append(f"process {entry.name}")
    return found


def _ports(world: World) -> list[str]:
    command = Network(world).enter("ip", "-oneline", "link", "show", "type", "veth")
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in listed if "host0" not in line]
