"""The world's "VPC": a bridge in a network namespace of its own, and one address of it on the host.

The bridge is in a namespace so that traffic between cells never meets the host's packet filter (a container engine
sets the FORWARD policy to drop). The namespace is a file below the world's state, not in /run/netns: `ip netns`
makes that directory a shared mount, and then a container runtime elsewhere keeps the cells' namespaces busy.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from kip.local.world import World, WorldError

METADATA_ADDRESS = IPv4Address("169.254.169.254")


class NetworkError(WorldError):
    """The kernel refused a step of the network's set-up; the message holds the command and its answer."""


class Network:
    """The network of one world; both `up` and `down` may be repeated."""

    def __init__(self, world: World) -> None:
        self.world = world

    @property
    def namespace_path(self) -> Path:
        """The file on which the room's network namespace is mounted: `nsenter --net=<path> …`."""
        return self.world.namespaces / "room"

    @property
    def bridge(self) -> str:
        """The bridge's name inside the namespace; every cell's veth becomes a port of it."""
        return "br0"

    @property
    def host_interface(self) -> str:
        """The host's interface in the VPC; holds `host_address`."""
        return f"kip-{self.world.name}"[:15]

    @property
    def cidr(self) -> IPv4Network:
        """The VPC's and its only subnet's range."""
        return self.world.cidr

    @property
    def host_address(self) -> IPv4Address:
        """The host's address in the VPC, and every cell's default gateway."""
        return self.world.host_address

    def enter(self, *command: str) -> list[str]:
        """The command line that runs the command inside the room's namespace."""
        return ["nsenter", f"--net={self.namespace_path}", "--", *command]

    def up(self) -> None:
        """Makes whatever of the network is missing. Raises NetworkError."""
        raise NotImplementedError

    def down(self) -> None:
        """Removes the network; also what a crash in the middle of `up` or `down` left."""
        raise NotImplementedError
