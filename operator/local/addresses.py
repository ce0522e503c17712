"""Choosing a network and ports that nothing else on this host uses."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv4Network
from pathlib import Path

_PORT_SEARCH = 200


class NothingFreeError(Exception):
    """Every candidate is in use; the message says which were tried."""


def free_network(candidates: Iterable[IPv4Network], used: Collection[IPv4Network]) -> IPv4Network:
    """The first candidate that overlaps none of the used ones. Raises NothingFreeError."""
    tried = list(candidates)
    for network in tried:
        if not any(network.overlaps(other) for other in used):
            return network
    raise NothingFreeError(f"in use on this host: {', '.join(map(str, tried))}")


def free_ports(wanted: Mapping[str, int], used: Collection[int]) -> dict[str, int]:
    """A port for each name, searched from the number given with it. Raises NothingFreeError."""
    ports: dict[str, int] = {}
    for name, first in wanted.items():
        taken = {*used, *ports.values()}
        ports[name] = _free_port(name, first, taken)
    return ports


def _free_port(name: str, first: int, used: Collection[int]) -> int:
    for port in range(first, first + _PORT_SEARCH):
        if port not in used and _can_listen(port):
            return port
    raise NothingFreeError(
        f"no port for {name}: {first} to {first + _PORT_SEARCH - 1} are in use on this host"
    )


def _can_listen(port: int) -> bool:
    """Nobody listens there on any address (the world's own address may not exist yet)."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                # Closed connections linger for a minute and do not keep the port from being listened on.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                return False
    return True


def host_networks(*, except_interface: str) -> list[IPv4Network]:
    """Networks that this host has a route to, apart from the default route and that interface's."""
    return parse_routes(Path("/proc/net/route").read_text(), except_interface=except_interface)


def parse_routes(table: str, *, except_interface: str) -> list[IPv4Network]:
    """Reads the kernel's table: columns Iface, Destination, …, Mask (8th), in little-endian hex."""
    networks = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        destination, mask = (int.from_bytes(bytes.fromhex(fields[i]), "little") for i in (1, 7))
        if mask and fields[0] != except_interface:
            networks.append(IPv4Network((destination, mask.bit_count())))
    return networks
