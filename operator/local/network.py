"""The world's "VPC": a bridge in a network namespace of its own, and one address of it on the host.

The bridge is in a namespace so that traffic between cells never meets the host's packet filter (a container
engine sets the FORWARD policy to drop). The namespace is a file below the world's state, not in /run/netns:
`ip netns` makes that directory a shared mount, and then a container runtime elsewhere keeps it busy.
"""

from __future__ import annotations

import subprocess
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from kip.local.mounts import mounts
from kip.local.world import World, WorldError

METADATA_ADDRESS = IPv4Address("169.254.169.254")

_HOST_PORT = "host0"  # the bridge's port of the veth whose other end is the host's interface


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
        return self.world.host_interface

    @property
    def cidr(self) -> IPv4Network:
        """The range of the VPC: its subnets share the bridge, as a VPC's router leads from each to the others."""
        return self.world.cidr

    @property
    def host_address(self) -> IPv4Address:
        """The host's address in the VPC, and every cell's default gateway."""
        return self.world.host_address

    def enter(self, *command: str) -> list[str]:
        """The command line that runs the command inside the room's namespace."""
        return ["nsenter", f"--net={self.namespace_path}", "--", *command]

    def is_up(self) -> bool:
        """Whether the host can reach the bridge: the last thing that `up` makes is there."""
        return (
            is_namespace(self.namespace_path)
            and _succeeds("ip", "route", "get", str(self.cidr[2]), "from", str(self.host_address))
            and _succeeds(
                *self.enter("ip", "route", "get", str(self.host_address), "from", str(METADATA_ADDRESS))
            )
        )

    def up(self) -> None:
        """Makes the network if it is not there whole. Raises NetworkError."""
        if self.is_up():
            return
        # Half a network is a crash's, and making it anew is surer than telling what of it is missing.
        self.down()
        make_namespace(self.namespace_path)
        self._make_bridge()
        self._join_host()

    def down(self) -> None:
        """Removes the network; also what a crash in the middle of `up` or `down` left."""
        # The namespace may live on in a process that a crash left: its end of the pair would, too.
        _succeeds("ip", "link", "del", self.host_interface)
        remove_namespace(self.namespace_path)

    def _make_bridge(self) -> None:
        # No spanning tree, no learning delay: a port forwards as soon as it is up.
        bridge = f"ip link add {self.bridge} type bridge stp_state 0 forward_delay 0"
        for step in (
            "ip link set lo up",
            bridge,
            f"ip link set {self.bridge} up",
            # The instance metadata service listens in this namespace and answers every address of the VPC.
            f"ip addr add {METADATA_ADDRESS}/32 dev {self.bridge}",
            f"ip route add {self.cidr} dev {self.bridge}",
        ):
            _run(*self.enter(*step.split()))

    def _join_host(self) -> None:
        host, room = self.host_interface, str(self.namespace_path)
        _run(*f"ip link add {host} type veth peer name {_HOST_PORT} netns".split(), room)
        _run(*self.enter(*f"ip link set {_HOST_PORT} master {self.bridge} up".split()))
        _run(*f"ip addr add {self.host_address}/{self.cidr.prefixlen} dev {host}".split())
        _run(*f"ip link set {host} up".split())


def make_namespace(path: Path) -> None:
    """Makes a network namespace that lives as long as the mount on that file. Raises NetworkError."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.touch(mode=0o444)
    _run("unshare", f"--net={path}", "--", "true")


def remove_namespace(path: Path) -> None:
    """Ends the mount and removes the file; a namespace without processes is gone then, with its interfaces."""
    while is_namespace(path):
        _run("umount", "--lazy", str(path))
    path.unlink(missing_ok=True)


def is_namespace(path: Path) -> bool:
    """Whether a namespace is mounted on that file."""
    canonical = path.resolve()
    return any(mount.point == canonical for mount in mounts())


def _succeeds(*command: str) -> bool:
    """Whether it does; where the program is missing it has made nothing, and nothing is there to be found."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NetworkError(f"{' '.join(command)}: there is no program {command[0]}") from None
    if done.returncode:
        answer = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise NetworkError(f"{' '.join(command)}: {answer}")
