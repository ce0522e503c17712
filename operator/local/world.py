"""What one local world is: its name, its addresses and ports, and where everything of it lies.

A world is a directory with a `world.json` in it. Everything that the parts of a world must agree on is
decided once, when the world is made, and read from there by each: `World.open("kip")` makes it or reads it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from kip.local.addresses import NothingFreeError, free_network, free_ports, host_networks

DEFAULT_NAME = "kip"

_ROOTS_DIRECTORY = Path("/var/lib/kip-local")

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,9}[a-z0-9])?")  # "kip-" and a name: 15 characters, an interface's most
# The default world's first choice is the first one, which no other world takes.
_NETWORKS = tuple(IPv4Network(f"10.{second}.0.0/24") for second in range(77, 100))

# Where the search for each port begins; all below 32768, where the kernel starts to hand out ports of
# outgoing connections, so that no passing client takes a port noted here while its owner is restarted.
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


Waiting = Callable[[str], contextlib.AbstractContextManager[None]]


def _silently(_title: str) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


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
            world = _with_all_ports(_read(parent / name) or _make(parent / name))
            world.save()
            return world

    @classmethod
    def find(cls, name: str = DEFAULT_NAME) -> World | None:
        """The world of that name if it was made, whether or not it is up. Raises WorldError: it is damaged."""
        check_name(name)
        return _read(states_directory() / name)

    @classmethod
    def unrecorded(cls, name: str) -> World:
        """A world of that name whose record is lost: enough to find and remove what is left of it, no more."""
        check_name(name)
        return cls(name, states_directory() / name, _NETWORKS[0], os.geteuid() == 0, {})

    @contextlib.contextmanager
    def exclusively(self, waiting: Waiting = _silently) -> Iterator[None]:
        """Holds the world for one command: `up` and `down` at the same time would undo each other's work.

        While another one has it, the block that `waiting` gives for a title runs: `wait for process 7 (kip local up)`.
        """
        with _locked(self.state, waiting):
            yield

    def save(self) -> None:
        """Writes world.json in one step, so that no reader ever sees half of it."""
        self.state.mkdir(mode=0o755, parents=True, exist_ok=True)
        text = json.dumps(
            {"name": self.name, "cidr": str(self.cidr), "rooted": self.rooted, "ports": dict(self.ports)},
            indent=2,
        )
        write_atomically(self.record, text + "\n")

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

    @property
    def record(self) -> Path:
        """What `World.find` reads; the last of a world's files to go."""
        return self.state / "world.json"

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
    def audit_policy(self) -> Path:
        """Which requests the API server notes in `audit_log`, as its --audit-policy-file; none where it is not there.

        Whoever wants to know them writes it before the API server starts.
        """
        return self.state / "audit-policy.yaml"

    @property
    def audit_log(self) -> Path:
        """An audit.k8s.io/v1 Event a line."""
        return self.logs / "audit.log"

    @property
    def namespaces(self) -> Path:
        """Network namespaces of the world, each a file on which the namespace is mounted."""
        return self.state / "netns"

    @property
    def cells(self) -> Path:
        """A directory per booted machine; the machine room's."""
        return self.state / "cells"

    @property
    def volume(self) -> Path:
        """What machines mount by NFS, with what stands between it and them (kip.local.volume)."""
        return self.state / "volume"

    @property
    def runc_root(self) -> Path:
        """`runc --root` of the booted machines."""
        return self.state / "runc"

    @property
    def host_interface(self) -> str:
        """The host's interface in the world's VPC."""
        return host_interface(self.state)

    @property
    def cgroup(self) -> str:
        """The cgroup, relative to each hierarchy's root, below which every booted machine has its own."""
        return f"kip-local-{self.name}{_mark(self.state)}"


def check_name(name: str) -> None:
    """Raises WorldError for a name that cannot name a directory, an interface and a cgroup."""
    if not _NAME.fullmatch(name):
        raise WorldError(
            f"world name {name!r}: expected at most 11 lower case letters, digits and dashes, a letter first"
        )


def host_interface(state: Path) -> str:
    """The host's interface in the VPC of the world with that directory; a name has at most 15 characters."""
    mark = _mark(state)
    return f"kip-{state.name[: 11 - len(mark)]}{mark}"


def _mark(state: Path) -> str:
    """What tells the world apart, in names that are the whole machine's, from one of that name in another directory.

    Nothing for the worlds in root's own directory; only root's have such names at all.
    """
    if state.parent == _ROOTS_DIRECTORY.resolve():
        return ""
    return "-" + hashlib.sha256(os.fsencode(state)).hexdigest()[:4]


def states_directory() -> Path:
    """The directory of all worlds' state: `KIP_LOCAL_STATE`, else one that suits the user (root or not).

    Canonical, as the kernel's paths are: what of a world is mounted and which processes are its own is told by them.
    """
    return _chosen_directory().resolve()


def _chosen_directory() -> Path:
    if chosen := os.environ.get("KIP_LOCAL_STATE"):
        return Path(chosen)
    if os.geteuid() == 0:
        return _ROOTS_DIRECTORY
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
    others = all_worlds()
    candidates = _NETWORKS if state.name == DEFAULT_NAME else _NETWORKS[1:]
    used = [world.cidr for world in others] + host_networks(except_interface=host_interface(state))
    try:
        cidr = free_network(candidates, used)
    except NothingFreeError as error:
        raise WorldError(f"no network is left for world {state.name!r}; {error}") from error
    return World(name=state.name, state=state, cidr=cidr, rooted=os.geteuid() == 0, ports={})


def _with_all_ports(world: World) -> World:
    wanted = {part: first for part, first in _PORTS.items() if part not in world.ports}
    used = {port for other in all_worlds() for port in other.ports.values()} | {*world.ports.values()}
    try:
        return dataclasses.replace(world, ports={**world.ports, **free_ports(wanted, used)})
    except NothingFreeError as error:
        raise WorldError(str(error)) from error


@contextlib.contextmanager
def _locked(directory: Path, waiting: Waiting = _silently) -> Iterator[Path]:
    """Holds the directory's lock: two worlds made at once must not choose the same network or port."""
    handle = _lock(directory, waiting)
    try:
        yield directory
    finally:
        os.close(handle)


def _lock(directory: Path, waiting: Waiting) -> int:
    while True:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with waiting(f"wait for {_holder(handle)}"):
                fcntl.flock(handle, fcntl.LOCK_EX)
        # The last world's end removes the directory, and a lock on a removed directory holds off nobody.
        with contextlib.suppress(FileNotFoundError):
            if directory.stat().st_ino == os.fstat(handle).st_ino:
                return handle
        os.close(handle)


def _holder(handle: int) -> str:
    """Who has the lock on that open directory, in words."""
    inode = str(os.fstat(handle).st_ino)
    for line in Path("/proc/locks").read_text().splitlines():
        # Number, FLOCK, ADVISORY, WRITE, process id, device:inode, …; who waits has `->` after the number.
        kind, pid, file = (line.split()[column] for column in (1, 4, 5))
        if kind == "FLOCK" and file.rpartition(":")[2] == inode:
            with contextlib.suppress(OSError):
                command = (
                    Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                return f"process {pid} ({command.strip()})"
    return "another command"
