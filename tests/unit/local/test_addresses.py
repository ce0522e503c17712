"""Choosing networks and ports that are free."""

import socket
from ipaddress import IPv4Network

import pytest

from kip.local.addresses import NothingFreeError, free_network, free_ports, parse_routes

ROUTES = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	0110A8C0	0003	0	0	0	00000000	0	0	0
eth0	0010A8C0	00000000	0001	0	0	0	00F0FFFF	0	0	0
kip-kip	00004D0A	00000000	0001	0	0	0	00FFFFFF	0	0	0
"""


def test_routes_are_read_without_the_default_one_and_the_worlds_own() -> None:
    assert parse_routes(ROUTES, except_interface="kip-kip") == [IPv4Network("192.168.16.0/20")]
    assert IPv4Network("10.77.0.0/24") in parse_routes(ROUTES, except_interface="kip-other")


def test_the_first_network_that_overlaps_nothing_is_taken() -> None:
    candidates = [IPv4Network("10.77.0.0/24"), IPv4Network("10.78.0.0/24")]
    assert free_network(candidates, []) == candidates[0]
    assert free_network(candidates, [IPv4Network("10.77.0.64/26")]) == candidates[1]


def test_no_network_left_says_what_was_tried() -> None:
    with pytest.raises(NothingFreeError, match=r"10\.77\.0\.0/24"):
        free_network([IPv4Network("10.77.0.0/24")], [IPv4Network("10.0.0.0/8")])


def test_ports_of_one_world_differ_even_if_they_begin_at_the_same_number() -> None:
    ports = free_ports({"a": 21000, "b": 21000}, used=[])
    assert ports["b"] > ports["a"] >= 21000


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_port_that_somebody_listens_on_is_passed_over(kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            other.listen()
        port = other.getsockname()[1]
        assert free_ports({"a": port}, used=[])["a"] > port


def test_a_port_of_another_world_that_is_not_up_is_passed_over() -> None:
    first = free_ports({"a": 21000}, used=[])["a"]
    assert free_ports({"a": 21000}, used=[first])["a"] > first
