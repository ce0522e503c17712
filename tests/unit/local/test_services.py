"""The world's services: what they are started with."""

import os
import sys
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from kip.local.processes import Process
from kip.local.room.cleanup import ready_path, say_ready
from kip.local.services import Aws, Operator, Registry, Room
from kip.local.world import World

PORTS = {"aws": 5000, "registry": 5001, "kubelet": 10250, "operator": 8080}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World("unit", tmp_path, IPv4Network("10.78.0.0/24"), True, PORTS)


def test_the_operator_has_its_own_identity_and_not_the_administrators(world: World) -> None:
    command = Operator(world).command()
    assert command.environment["KUBECONFIG"] == str(world.operator_kubeconfig)
    assert command.argv[-1] == str(world.provider_config)


def test_every_service_is_of_this_installation_and_keeps_its_state_in_the_world(world: World) -> None:
    for part in (Aws(world), Registry(world)):
        argv = part.command().argv
        assert argv[:3] == (sys.executable, "-m", f"kip.local.{part.name}")
        assert f"--port={PORTS[part.name]}" in argv
        assert f"--state={world.state / part.name}" in argv
    assert "--world=unit" in Room(world).command().argv


def test_a_room_is_ready_when_it_has_said_so_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room(world)
    monkeypatch.setattr(room.processes, "running", lambda _: Process(os.getpid(), 1))
    world.run.mkdir()
    assert room.missing() == "the machine image is being made"
    ready_path(world).write_text("1\n")  # a room's that was killed
    assert room.missing() == "the machine image is being made"
    say_ready(world)
    assert room.missing() is None


def test_no_instance_gets_an_address_of_an_ordinary_nodes_pods(world: World) -> None:
    assert "--withhold=10.78.0.224/27" in Aws(world).command().argv
