"""Booting a machine where a step fails. What a machine is when none does is tried by the e2e tests."""

from __future__ import annotations

import errno
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from kip.local.room import machine
from kip.local.room.ami import Ami
from kip.local.room.instances import Instance
from kip.local.room.machine import MachineError
from kip.local.world import World

INSTANCE = Instance(
    id="i-1",
    state="running",
    type="t3.small",
    vcpus=2,
    memory_mib=2048,
    private_ip="10.78.0.10",
    mac="02:00:0a:4e:00:0a",
    subnet_cidr="10.78.0.0/24",
    vpc_cidr="10.78.0.0/24",
    zone="us-east-1a",
)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(machine, "make_namespace", lambda *_: None)
    monkeypatch.setattr(machine.wiring, "plug_in", lambda *_: None)
    monkeypatch.setattr(machine, "lay_out", lambda _world, place, *_: place.directory.mkdir(parents=True))
    monkeypatch.setattr(machine, "_start", lambda *_: 7)
    return World("unit", tmp_path, IPv4Network("10.78.0.0/24"), True, {})


def test_a_machine_is_noted_when_its_init_runs(world: World, tmp_path: Path) -> None:
    booted = machine.boot(world, Ami(tmp_path / "ami-1"), INSTANCE)
    assert (booted.pid, booted.image) == (7, "ami-1")
    assert (world.cells / "i-1" / "booted.json").exists()


@pytest.mark.parametrize("step", ["lay_out", "write_atomically"])
def test_a_full_disk_is_a_boot_that_failed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(machine, step, refuse)
    with pytest.raises(MachineError, match=r"i-1: .*No space left on device"):
        machine.boot(world, Ami(tmp_path / "ami-1"), INSTANCE)
