"""The room's decisions: what it boots, destroys, tells, adopts. Machines are processes that only sleep."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from kip.local.network import NetworkError
from kip.local.room import room as module
from kip.local.room.ami import Ami
from kip.local.room.instances import ControlError, Instance, Listing
from kip.local.room.machine import Booted, MachineError
from kip.local.room.room import Room
from kip.local.world import World


class Machines:
    """Stands in for kip.local.room.machine: a machine is a process that sleeps."""

    def __init__(self) -> None:
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.complete: set[str] = set()
        self.calls: list[str] = []
        self.refuse: dict[str, Exception] = {}
        self.stay = 0  # how often a machine cannot be destroyed
        self.hold = threading.Event()
        self.hold.set()

    def boot(self, world: World, ami: Ami, instance: Instance) -> Booted:
        self.hold.wait(5)
        self.calls.append(f"boot {instance.id}")
        if instance.id in self.refuse:
            self.processes[instance.id] = subprocess.Popen(["true"])
            raise self.refuse[instance.id]
        assert instance.id not in self.processes, "booted over another machine"
        self.start(instance.id)
        return Booted(instance.id, self.processes[instance.id].pid, "ami")

    def start(self, instance_id: str) -> None:
        self.processes[instance_id] = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        self.complete.add(instance_id)

    def lead(self, world: World, instance: Instance) -> None:
        self.calls.append(f"lead {instance.id} {instance.routes}")
        if instance.id in self.refuse:
            raise self.refuse[instance.id]

    def destroy(self, world: World, instance_id: str) -> None:
        self.complete.discard(instance_id)
        if instance_id in self.processes and self.stay:
            self.stay -= 1
            raise OSError("busy")
        if process := self.processes.pop(instance_id, None):
            self.calls.append(f"destroy {instance_id}")
            process.kill()
            process.wait()

    def present(self, world: World) -> set[str]:
        return set(self.processes)

    def running(self, world: World, instance_id: str) -> Booted | None:
        alive = instance_id in self.complete and self.processes[instance_id].poll() is None
        return Booted(instance_id, self.processes[instance_id].pid, "ami") if alive else None


class Endpoint:
    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.failures = 0

    async def list(self, *, newer_than: int | None = None, wait: float = 0) -> Listing:
        raise ControlError("not used")

    async def report(self, instance_id: str, state: str, reason: str) -> None:
        if self.failures:
            self.failures -= 1
            raise ControlError("away")
        self.told.append((instance_id, state, reason))


def running(*ids: str, **changes: Any) -> Listing:
    facts: dict[str, Any] = {
        "state": "running",
        "type": "t3.small",
        "vcpus": 2,
        "memory_mib": 2048,
        "mac": "02:00:00:00:00:00",
        "subnet_cidr": "10.0.0.0/24",
        "vpc_cidr": "10.0.0.0/24",
        "zone": "us-east-1a",
    }
    facts |= changes
    return Listing(
        1, [Instance(id=name, private_ip=f"10.0.0.{number}", **facts) for number, name in enumerate(ids)]
    )


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Machines:
    fake = Machines()
    monkeypatch.setattr(module, "machine", fake)
    monkeypatch.setattr(module, "listens", lambda pid, port: True)
    monkeypatch.setattr(module, "_RETRY", 0.01)
    return fake


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
async def room(machines: Machines, endpoint: Endpoint, tmp_path: Path) -> AsyncIterator[Room]:
    world = World("test", tmp_path, IPv4Network("10.0.0.0/24"), rooted=True, ports={})
    room = Room(world, Ami(tmp_path / "ami"), endpoint)
    yield room
    await room.close()
    for name in list(machines.processes):
        machines.destroy(world, name)


async def test_running_instances_are_booted_once(room, machines):
    room.apply(running("i-1", "i-2"))
    room.apply(running("i-1", "i-2"))
    await room.settled()
    assert sorted(machines.calls) == ["boot i-1", "boot i-2"]
    room.apply(running("i-1", "i-2"))
    await room.settled()
    assert len(machines.calls) == 2


async def test_what_is_no_longer_running_is_destroyed_and_the_rest_is_left_alone(room, machines):
    room.apply(running("i-1", "i-2"))
    await room.settled()
    room.apply(running("i-2"))
    await room.settled()
    assert machines.calls[2:] == ["destroy i-1"]
    assert set(machines.processes) == {"i-2"}


async def test_an_instance_terminated_while_it_boots_is_destroyed_after(room, machines):
    machines.hold.clear()
    room.apply(running("i-1"))
    await asyncio.sleep(0)
    room.apply(running())
    machines.hold.set()
    await room.settled()
    assert machines.processes == {}


@pytest.mark.parametrize("error", [MachineError("refused"), NetworkError("refused"), OSError("refused")])
async def test_a_failed_boot_is_cleaned_up_and_told_once(room, machines, endpoint, error):
    machines.refuse["i-1"] = error
    room.apply(running("i-1"))
    await room.settled()
    room.apply(running("i-1"))  # a listing that crossed the report
    await room.settled()
    assert machines.calls == ["boot i-1", "destroy i-1"]
    assert endpoint.told == [("i-1", "terminated", "Server.InternalError: refused")]


@pytest.mark.parametrize(("behavior", "state"), [("terminate", "terminated"), ("stop", "stopped")])
async def test_a_power_off_from_inside_is_told_and_the_rest_removed(
    room, machines, endpoint, behavior, state
):
    listing = running("i-1", shutdown_behavior=behavior)
    room.apply(listing)
    await room.settled()
    machines.processes["i-1"].terminate()
    deadline = asyncio.get_running_loop().time() + 5
    while not endpoint.told and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.01)
    room.apply(listing)
    await room.settled()
    assert [(name, told) for name, told, _ in endpoint.told] == [("i-1", state)]
    assert machines.calls == ["boot i-1", "destroy i-1"]


async def test_what_cannot_be_destroyed_is_tried_again(room, machines):
    room.apply(running("i-1"))
    await room.settled()
    machines.stay = 2
    room.apply(running())
    await room.settled()
    assert machines.processes == {}


async def test_the_endpoint_is_told_until_it_answers(room, machines, endpoint):
    machines.refuse["i-1"] = MachineError("refused")
    endpoint.failures = 2
    room.apply(running("i-1"))
    await room.settled()
    assert len(endpoint.told) == 1


async def test_an_instance_that_runs_again_after_its_end_is_booted_again(room, machines):
    machines.refuse["i-1"] = MachineError("refused")
    room.apply(running("i-1"))
    await room.settled()
    room.apply(running())
    await room.settled()
    machines.refuse.clear()
    room.apply(running("i-1"))
    await room.settled()
    assert machines.calls == ["boot i-1", "destroy i-1", "boot i-1"]


async def test_machines_of_an_earlier_room_are_adopted_and_not_touched(room, machines):
    machines.start("i-1")
    room.adopt()
    room.apply(running("i-1"))
    await room.settled()
    assert machines.calls == ["lead i-1 {}"], "whatever the earlier room has led elsewhere"
    assert room.images_in_use() == {"ami"}


async def test_half_a_machine_is_booted_anew_and_a_machine_nobody_wants_destroyed(room, machines):
    machines.start("i-half")
    machines.complete.clear()
    machines.start("i-unwanted")
    room.adopt()
    room.apply(running("i-half"))
    await room.settled()
    assert sorted(machines.calls) == ["boot i-half", "destroy i-half", "destroy i-unwanted"]


async def test_what_the_route_tables_say_is_arranged_when_it_changes(room, machines):
    routes = {"192.0.2.0/24": "10.0.0.9"}
    for wanted in ({}, routes, routes, {}, {}):
        room.apply(running("i-1", routes=wanted))
        await room.settled()
    assert machines.calls == ["boot i-1", f"lead i-1 {routes}", "lead i-1 {}"]


async def test_a_route_that_the_kernel_refuses_is_not_tried_for_ever(room, machines):
    room.apply(running("i-1"))
    await room.settled()
    machines.refuse["i-1"] = MachineError("refused")
    for _ in range(2):
        room.apply(running("i-1", routes={"192.0.2.0/24": "10.0.0.9"}))
        await room.settled()
    assert len(machines.calls) == 2


async def test_an_instance_is_found_by_each_of_its_addresses(room):
    room.apply(running("i-1", secondary_ips=["10.0.0.100"]))
    for address in ("10.0.0.0", "10.0.0.100"):
        found = room.instance_at(address)
        assert found is not None
        assert found.id == "i-1"
    assert room.instance_at("10.0.0.1") is None
    await room.settled()
    room.apply(running())
    assert room.instance_at("10.0.0.0") is None
    await room.settled()
