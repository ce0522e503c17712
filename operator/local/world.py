"""What one local world is: its name, its addresses and ports, and where everything of it lies.

A world is a directory with a `world.json` in it. Everything that the parts of a world must agree on is decided
once, when the world is made, and read from there by each of them: `World.open("kip")` makes it or reads it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

DEFAULT_NAME = "kip"

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?")  # names interfaces (15 characters) and cgroups
_DEFAULT_NETWORK = IPv4Network("10.77.0.0/24")
_OTHER_NETWORKS = tuple(IPv4Network(f"10.{second}.0.0/24") for second in range(78, 100))

# Where the search for each port begins; all below 32768, where the kernel starts to hand out ports of outgoing
# connections, so that a port noted here is not taken by a passing client while its owner is restarted.
_PORTS: Mapping[str, int] = {
    "etcd": 2379,
    "etcd-peer": 2380,
    "apiserver": 6443,
    "controller-manager": 10257,
    "scheduler": 10259,
    "dns": 5300,
    "dns-health": 5380,
    "aws": 5000,
    "registry": 5001,
    "kubelet": 10250,
    "operator": 8080,
}
# These listen on the loopback whatever the world, the others on the world's host address.
_LOOPBACK_PORTS = frozenset(
    {"etcd", "etcd-peer", "controller-manager", "scheduler", "dns-health", "operator"}
)
_PORT_SEARCH = 200


class WorldError(Exception):
    """Something about a local world that its user has to change; the message says what."""


@dataclass(frozen=True)
class World:
    """One local world. Read-only: what changes while it runs is in files below `state`."""

    name: str
    state: Path
    cidr: IPv4Network
    rooted: bool
    ports: Mapping[str, int]

    @classmethod
    def open(cls, name: str = DEFAULT_NAME) -> World:
        """The world of that name, made (directory, network, ports) when there is none yet.

        Raises:
            WorldError: the name cannot be used, or no network or port is left.
        """
        check_name(name)
        with _locked(states_directory()) as parent:
            world = _read(parent / name) or _make(parent / name)
            missing = _PORTS.keys() - world.ports.keys()
            if missing:
                world = _with_ports(world, _all_taken(parent))
            world.save()
            return world

    @classmethod
    def find(cls, name: str = DEFAULT_NAME) -> World | None:
        """The world of that name if it was made, whether or not it is up."""
        check_name(name)
        return _read(states_directory() / name)

    def save(self) -> None:
        """Writes world.json in one step, so that no reader ever sees half of it."""
        self.state.mkdir(mode=0o755, parents=True, exist_ok=True)
        text = json.dumps(
            {"name": self.name, "cidr": str(self.cidr), "rooted": self.rooted, "ports": dict(self.ports)},
            indent=2,
        )
        write_atomically(self.state / "world.json", text + "\n")

    # Addresses -----------------------------------------------------------------------------------------------

    @property
    def host_address(self) -> IPv4Address:
        """Where the host's parts (API server, AWS endpoint, registry, DNS, operator) listen.

        As root the first address of the world's VPC, reachable from every cell; otherwise the loopback.
        """
        return self.cidr[1] if self.rooted else IPv4Address("127.0.0.1")

    @property
    def service_cidr(self) -> IPv4Network:
        """ClusterIPs of Services."""
        return IPv4Network("10.96.0.0/16")

    @property
    def cluster_dns(self) -> IPv4Address:
        """The ClusterIP of cluster DNS."""
        return self.service_cidr[10]

    @property
    def node_pods(self) -> IPv4Network:
        """The addresses of an ordinary node's pods: the VPC's last /27, never given to an instance."""
        return list(self.cidr.subnets(new_prefix=27))[-1]

    def address(self, part: str) -> tuple[str, int]:
        """Host and port on which that part ("apiserver", "aws", "registry", …) listens."""
        host = "127.0.0.1" if part in _LOOPBACK_PORTS else str(self.host_address)
        return host, self.ports[part]

    def url(self, part: str, scheme: str = "http") -> str:
        """The part's address as a URL without a path: `http://10.77.0.1:5000`."""
        host, port = self.address(part)
        return f"{scheme}://{host}:{port}"

    # Paths ---------------------------------------------------------------------------------------------------

    @property
    def logs(self) -> Path:
        """A `<part>.log` for every process of the world."""
        return self.state / "logs"

    @property
    def run(self) -> Path:
        """Process records, one `<part>.json` each."""
        return self.state / "run"

    @property
    def pki(self) -> Path:
        """Certificate authorities, certificates and keys of the control plane."""
        return self.state / "pki"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig (system:masters)."""
        return self.state / "admin.kubeconfig"

    @property
    def operator_kubeconfig(self) -> Path:
        """The operator's kubeconfig: the service account kip/kip-provider and nothing more."""
        return self.state / "operator.kubeconfig"

    @property
    def provider_config(self) -> Path:
        """The operator's provider.yaml."""
        return self.state / "provider.yaml"

    @property
    def namespaces(self) -> Path:
        """Network namespaces of the world, each a file on which the namespace is mounted."""
        return self.state / "netns"

    @property
    def cells(self) -> Path:
        """A directory per booted machine; the machine room's."""
        return self.state / "cells"

    @property
    def runc_root(self) -> Path:
        """`runc --root` of the booted machines."""
        return self.state / "runc"

    @property
    def cgroup(self) -> str:
        """The cgroup, relative to each hierarchy's root, below which every booted machine has its own."""
        return f"kip-local-{self.name}"


def check_name(name: str) -> None:
    """Raises WorldError for a name that cannot name a directory, an interface and a cgroup."""
    if not _NAME.fullmatch(name):
        raise WorldError(
            f"world name {name!r}: expected at most 12 lower case letters, digits and dashes, a letter first"
        )


def states_directory() -> Path:
    """The directory of all worlds' state: `KIP_LOCAL_STATE`, else one that suits the user (root or not)."""
    if chosen := os.environ.get("KIP_LOCAL_STATE"):
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/kip-local")
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "kip-local"


def all_worlds() -> list[World]:
    """Every world that was made and not taken down, up or not."""
    parent = states_directory()
    found = (_read(directory) for directory in sorted(parent.iterdir())) if parent.is_dir() else ()
    return [world for world in found if world is not None]


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replaces the file by a complete new one; a crash leaves the old one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            os.fchmod(file.fileno(), mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read(state: Path) -> World | None:
    try:
        kept = json.loads((state / "world.json").read_text())
        return World(
            name=kept["name"],
            state=state,
            cidr=IPv4Network(kept["cidr"]),
            rooted=kept["rooted"],
            ports=kept["ports"],
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise WorldError(
            f"{state / 'world.json'} cannot be read ({error!r}); remove {state} to begin anew"
        ) from error


def _make(state: Path) -> World:
    cidrs, _ = taken = _all_taken(state.parent)
    candidates = (_DEFAULT_NETWORK,) if state.name == DEFAULT_NAME else _OTHER_NETWORKS
    free = [network for network in candidates if not any(network.overlaps(used) for used in cidrs)]
    if not free:
        raise WorldError(
            f"no network is left for world {state.name!r}: {', '.join(map(str, candidates))} are in use on this "
            "host; take a world down (kip local down --name …) or remove the interface that has it"
        )
    world = World(name=state.name, state=state, cidr=free[0], rooted=os.geteuid() == 0, ports={})
    return _with_ports(world, taken)


def _all_taken(parent: Path) -> tuple[list[IPv4Network], set[int]]:
    """Networks and ports that other worlds have, up or not, and networks that the host's interfaces have."""
    worlds = all_worlds() if parent.is_dir() else []
    networks = [world.cidr for world in worlds] + _host_networks()
    return networks, {port for world in worlds for port in world.ports.values()}


def _host_networks() -> list[IPv4Network]:
    """Networks with a route on this host; the kernel lists them as little-endian hexadecimal numbers."""
    networks = []
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        fields = line.split()
        destination, mask = (int.from_bytes(bytes.fromhex(fields[i]), "little") for i in (1, 7))
        if mask:
            networks.append(IPv4Network((destination, bin(mask).count("1"))))
    return networks


def _with_ports(world: World, taken: tuple[list[IPv4Network], set[int]]) -> World:
    used = set(taken[1])
    ports = dict(world.ports)
    for part, first in _PORTS.items():
        if part not in ports:
            ports[part] = _free_port(part, first, used)
            used.add(ports[part])
    return World(name=world.name, state=world.state, cidr=world.cidr, rooted=world.rooted, ports=ports)


def _free_port(part: str, first: int, used: set[int]) -> int:
    for port in range(first, first + _PORT_SEARCH):
        if port not in used and _can_listen(port):
            return port
    raise WorldError(f"no port is free for {part}: tried {first} to {first + _PORT_SEARCH - 1}")


def _can_listen(port: int) -> bool:
    """Nobody listens there on any address: the world's own address may not exist yet."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                return False
    return True


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[Path]:
    """Holds the directory's lock: two worlds made at once must not choose the same network or port."""
    while True:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            # `down` removes the directory with its last world: a lock on a removed directory holds off nobody.
            with contextlib.suppress(FileNotFoundError):
                if directory.stat().st_ino == os.fstat(handle).st_ino:
                    yield directory
                    return
        finally:
            os.close(handle)
