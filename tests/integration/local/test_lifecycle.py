"""A world survives the death of any part, and leaves nothing when it goes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kip.local import lifecycle
from kip.local.api import Api
from kip.local.network import Network, make_namespace
from kip.local.processes import Processes
from kip.local.room import traces
from kip.local.waiting import NotReadyError, until
from kip.local.world import World

pytestmark = pytest.mark.integration
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: needs root")

MARK = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept", "namespace": "default"}}


@pytest.fixture
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reserved: Callable[[str], str]) -> Iterator[str]:
    """A name for a world in a directory of this test's own, taken down whatever happens."""
    monkeypatch.setenv("KIP_LOCAL_STATE", str(tmp_path / "states"))
    name = reserved("kipunit")
    yield name
    lifecycle.down(name)


def remains(world: World) -> list[str]:
    """Everything of the world that can be found on this machine."""
    found = [f"process {process}" for process in Processes(world).all()]
    found += [f"mount {path}" for path in traces.mounts_below(world.state)]
    found += [f"cgroup {path}" for path in traces.cgroup_directories(world.cgroup)]
    found += [f"interface {name}" for _, name in socket.if_nameindex() if name == world.host_interface]
    found += [f"directory {world.state.parent}"] if world.state.parent.exists() else []
    return found


def test_what_was_killed_comes_back_with_what_it_kept(name: str) -> None:
    world = lifecycle.up(name, only=["cluster", "scheduler"])
    Api(world).apply({**MARK, "data": {"a": "b"}})
    processes = Processes(world)
    before = {
        part: processes.running(part) for part in ("etcd", "apiserver", "controller-manager", "scheduler")
    }
    for part in ("etcd", "apiserver"):
        killed = before[part]
        assert killed
        os.kill(killed.pid, signal.SIGKILL)
    # A record that is lost as well: its process holds the port and has to go.
    (world.run / "scheduler.json").unlink()

    assert lifecycle.up(name, only=["cluster", "scheduler"]) == world

    after = {part: processes.running(part) for part in before}
    assert after["controller-manager"] == before["controller-manager"]
    assert all(after[part] and after[part] != before[part] for part in ("etcd", "apiserver", "scheduler")), (
        after
    )
    assert before["scheduler"]
    assert not before["scheduler"].alive
    kept = Api(world).read(MARK)
    assert kept
    assert kept["data"] == {"a": "b"}
    started = {*before, "access", "cluster", *(["network"] if world.rooted else [])}
    missing = {part.name: part.missing for part in lifecycle.status(world) if part.started}
    assert missing == dict.fromkeys(started)

    assert lifecycle.down(name)
    assert remains(world) == []
    assert lifecycle.down(name) is False


@pytest.mark.parametrize("lost", ["run", "world.json", "."])
def test_down_needs_no_record(name: str, lost: str) -> None:
    world = lifecycle.up(name, only=["etcd"])
    if (world.state / lost).is_dir():
        shutil.rmtree(world.state / lost)
    else:
        (world.state / lost).write_text("{")
    assert Processes(world).all()
    assert lifecycle.down(name)
    assert remains(world) == []


def test_a_part_that_cannot_start_says_why(name: str) -> None:
    world = World.open(name)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(world.address("etcd"))
        other.listen()
        with pytest.raises(NotReadyError, match=r"(?s)etcd ended; last lines of .*address already in use"):
            lifecycle.up(name, only=["etcd"])
    lifecycle.up(name, only=["etcd"])


def plug_in(network: Network, cell: Path, address: str) -> None:
    """Joins a namespace to the bridge, as the machine room does for a cell."""
    for command in (
        network.enter(
            *["ip", "link", "add", "pcell", "type", "veth", "peer", "name", "eth0", "netns"], str(cell)
        ),
        network.enter(*f"ip link set pcell master {network.bridge} up".split()),
        ["nsenter", f"--net={cell}", *f"ip addr add {address}/24 dev eth0".split()],
        ["nsenter", f"--net={cell}", *["ip", "link", "set", "eth0", "up"]],
    ):
        subprocess.run(command, check=True)


@needs_root
def test_the_network_joins_host_and_room_and_heals(name: str) -> None:
    world = lifecycle.up(name, only=["network"])
    network = Network(world)
    cell = world.namespaces / "cell"
    make_namespace(cell)
    plug_in(network, cell, str(world.cidr[11]))
    with socket.create_server((str(world.host_address), 0)) as listener:
        connect = f"exec 3<>/dev/tcp/{world.host_address}/{listener.getsockname()[1]}"
        subprocess.run(["nsenter", f"--net={cell}", "timeout", "5", "bash", "-c", connect], check=True)
        listener.settimeout(5)
        connection, peer = listener.accept()
        connection.close()
    assert peer[0] == str(world.cidr[11])

    subprocess.run(["ip", "link", "del", world.host_interface], check=True)
    assert not network.is_up()
    lifecycle.up(name, only=["network"])
    assert network.is_up()


def entered(pid: int, namespace: int) -> str | None:
    """What keeps the process from being in the network namespace with that inode number."""
    found = Path(f"/proc/{pid}/ns/net").stat().st_ino
    return None if found == namespace else f"it is in {found}, not in {namespace}"


@needs_root
def test_a_process_left_in_a_namespace_does_not_keep_the_world(name: str) -> None:
    world = lifecycle.up(name, only=["network"])
    namespace = Network(world).namespace_path.stat().st_ino
    with subprocess.Popen(Network(world).enter("sleep", "600")) as left:
        try:
            until(lambda: entered(left.pid, namespace), what="a process in the namespace", seconds=10)
            lifecycle.down(name)
            assert left.wait(timeout=5) == -signal.SIGKILL
        finally:
            left.kill()
    assert remains(world) == []


@needs_root
@pytest.mark.parametrize("states", ["states", "link/states"])
def test_mounts_and_loop_devices_go_and_nothing_is_removed_through_a_mount(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, states: str
) -> None:
    (tmp_path / "a disk").mkdir()
    (tmp_path / "link").symlink_to("a disk")
    monkeypatch.setenv("KIP_LOCAL_STATE", str(tmp_path / states))
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("still here")
    world = lifecycle.up(name, only=["network"])
    inside, image = world.state / "with space", world.state / "image"
    inside.mkdir()
    subprocess.run(["mount", "--bind", str(precious), str(inside)], check=True)
    image.write_bytes(b"\0" * 65536)
    device = subprocess.run(
        ["losetup", "--find", "--show", str(image)], check=True, capture_output=True, text=True
    ).stdout.strip()

    lifecycle.down(name)

    assert remains(world) == []
    assert (precious / "file").read_text() == "still here"
    assert (
        device not in subprocess.run(["losetup", "--list"], capture_output=True, text=True, check=True).stdout
    )
