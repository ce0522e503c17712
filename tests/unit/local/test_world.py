"""A world's facts: decided once, kept, the same for every part."""

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from kip.local.world import World, WorldError, all_worlds, check_name, states_directory, write_atomically


@pytest.fixture(autouse=True)
def _states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIP_LOCAL_STATE", str(tmp_path / "states"))


def test_a_world_opened_again_is_the_same() -> None:
    assert World.open("one") == World.open("one") == World.find("one")


def test_a_world_that_was_never_made_is_not_found() -> None:
    assert World.find("one") is None
    assert all_worlds() == []


def test_two_worlds_share_neither_network_nor_port() -> None:
    one, two = World.open("one"), World.open("two")
    assert not one.cidr.overlaps(two.cidr)
    assert set(one.ports.values()).isdisjoint(two.ports.values())


def test_worlds_made_at_the_same_time_share_nothing_either() -> None:
    threads = [threading.Thread(target=World.open, args=(f"w{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    worlds = all_worlds()
    assert len(worlds) == 6
    assert len({world.cidr for world in worlds}) == 6


def test_only_the_default_world_takes_the_default_network() -> None:
    assert str(World.open("other").cidr) != "10.77.0.0/24"


def test_a_port_that_a_newer_version_needs_is_added() -> None:
    world = World.open("one")
    path = world.state / "world.json"
    kept = json.loads(path.read_text())
    del kept["ports"]["aws"]
    path.write_text(json.dumps(kept))
    assert World.open("one").ports.keys() == world.ports.keys()
    assert World.open("one").ports["etcd"] == world.ports["etcd"]


def test_addresses_of_a_world_of_root() -> None:
    world = World("kip", Path("/x"), World.open("kip").cidr, True, {"aws": 5000, "etcd": 2379})
    assert world.host_address == world.cidr[1]
    assert world.url("aws") == f"http://{world.cidr[1]}:5000"
    assert world.url("etcd", "https") == "https://127.0.0.1:2379"
    assert world.cluster_dns == IPv4Address("10.96.0.10")


def test_addresses_of_a_world_of_another_user() -> None:
    world = World("kip", Path("/x"), World.open("kip").cidr, False, {"aws": 5000})
    assert world.address("aws") == ("127.0.0.1", 5000)


def test_an_ordinary_nodes_pods_are_at_the_end_of_the_network() -> None:
    world = World.open("one")
    assert world.node_pods.prefixlen == 27
    assert world.node_pods.broadcast_address == world.cidr.broadcast_address


@pytest.mark.parametrize("name", ["", "Upper", "1st", "a/b", "..", "a-", "twelve-chars", "a b"])
def test_a_name_that_cannot_name_everything_is_refused(name: str) -> None:
    with pytest.raises(WorldError, match="world name"):
        check_name(name)


def test_the_longest_name_still_makes_an_interface() -> None:
    for parent in (Path("/var/lib/kip-local"), Path("/elsewhere")):
        state = parent / "eleven-char"
        assert len(World(state.name, state, IPv4Network("10.78.0.0/24"), True, {}).host_interface) == 15


def test_worlds_of_one_name_in_two_directories_share_no_name_in_the_kernel() -> None:
    states = [Path(parent) / "one" for parent in ("/var/lib/kip-local", "/a", "/b")]
    states.append(Path("/a/one-longer"))
    worlds = [World(state.name, state, IPv4Network("10.78.0.0/24"), True, {}) for state in states]
    assert (worlds[0].cgroup, worlds[0].host_interface) == ("kip-local-one", "kip-one")
    assert len({world.cgroup for world in worlds}) == len({world.host_interface for world in worlds}) == 4


def test_a_broken_record_is_told_with_its_path() -> None:
    path = World.open("one").state / "world.json"
    path.write_text("{")
    with pytest.raises(WorldError, match=str(path)):
        World.find("one")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\udcff")
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir() if found.is_file()] == ["file"]


def test_a_secret_is_never_readable_by_others(tmp_path: Path) -> None:
    write_atomically(tmp_path / "key", "secret", 0o600)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_the_states_directory_suits_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KIP_LOCAL_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", "/home/u/.state")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert states_directory() == Path("/home/u/.state/kip-local")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert states_directory() == Path("/var/lib/kip-local")


def test_the_states_directory_is_canonical(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    monkeypatch.setenv("KIP_LOCAL_STATE", str(tmp_path / "link" / ".." / "link" / "states"))
    assert states_directory() == tmp_path.resolve() / "disk" / "states"
    assert World.open("one").state == tmp_path.resolve() / "disk" / "states" / "one"


def test_a_held_world_keeps_another_command_waiting() -> None:
    world, order, waits = World.open("one"), [], threading.Event()

    @contextlib.contextmanager
    def waiting(title: str) -> Iterator[None]:
        order.append(title)
        waits.set()
        yield

    def second() -> None:
        with world.exclusively(waiting):
            order.append("second")

    with world.exclusively(waiting):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(10)
        order.append("first")
    thread.join(10)
    told, *others = order
    assert told.startswith(f"wait for process {os.getpid()} (")
    assert others == ["first", "second"]
