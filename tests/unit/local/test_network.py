"""Names and addresses of the VPC; what the kernel makes of them is tested with root."""

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from kip.local import network
from kip.local.mounts import parse
from kip.local.network import Network, NetworkError, _run, is_namespace
from kip.local.world import World

NETWORK = Network(World("unit", Path("/var/lib/kip-local/unit"), IPv4Network("10.78.0.0/24"), True, {}))


def test_commands_run_inside_the_rooms_namespace() -> None:
    assert NETWORK.enter("ip", "link") == [
        "nsenter",
        "--net=/var/lib/kip-local/unit/netns/room",
        "--",
        "ip",
        "link",
    ]


def test_the_host_is_the_first_address_and_known_by_the_worlds_name() -> None:
    assert NETWORK.host_address == IPv4Address("10.78.0.1")
    assert NETWORK.host_interface == "kip-unit"


def test_a_plain_file_is_no_namespace(tmp_path: Path) -> None:
    (tmp_path / "room").touch()
    assert not is_namespace(tmp_path / "room")
    assert not is_namespace(tmp_path / "none")


def test_where_ip_is_missing_there_is_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = Network(World("unit", tmp_path, IPv4Network("10.78.0.0/24"), True, {}))
    assert not found.is_up()
    found.down()
    with pytest.raises(NetworkError, match="no program unshare"):
        found.up()


def test_a_namespace_is_found_by_any_name_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = tmp_path.resolve() / "with space"
    states.mkdir()
    (tmp_path / "link").symlink_to(states)
    escaped = str(states / "room").replace(" ", r"\040")
    monkeypatch.setattr(network, "mounts", lambda: parse(f"1 2 0:4 net:[7] {escaped} rw - nsfs nsfs rw"))
    assert is_namespace(states / "room")
    assert is_namespace(tmp_path / "link" / "room")
    assert not is_namespace(states / "other")


def test_a_refused_step_is_told_with_its_command_and_the_answer() -> None:
    with pytest.raises(NetworkError, match=r"^ls /no/such/file: .*No such file"):
        _run("ls", "/no/such/file")
