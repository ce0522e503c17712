"""A machine's network: a port of the world's bridge, and what EC2 sets up of an instance's network interface."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from kip.local.network import METADATA_ADDRESS, Network, is_namespace
from kip.local.room.instances import Instance

_VPC_ROUTES = 177  # marks our routes in a machine's table; no routing daemon's (/etc/iproute2/rt_protos)
_LAST = 1024
_LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp


def plug_in(network: Network, namespace: Path, instance: Instance) -> None:
    """Joins the machine's namespace to the VPC: its primary address on eth0, secondary ones on nothing.

    Raises:
        CalledProcessError: the kernel refused a step.
    """
    port = _port(instance.id)
    room = f'link add {port} type veth peer name eth0 netns "{namespace}"\n'
    room += f"link set {port} master {network.bridge} up\n"
    _feed(network.enter("ip", "-batch", "-"), room)
    length = instance.subnet_cidr.partition("/")[2]
    inside = [
        # From the address, so that a reused address does not meet a stale neighbour entry (5 s and 3 probes).
        f"ip link set eth0 address {instance.mac}",
        "ip link set lo up",
        f"ip addr add {instance.private_ip}/{length} dev eth0",
        "ip link set eth0 up",
        # In the VPC's router's place: a machine finds those in other subnets on the same bridge.
        f"ip route replace {instance.vpc_cidr} dev eth0 src {instance.private_ip}",
        # With a metric, so that a route of the VPC for 0.0.0.0/0 has its place before it.
        f"ip route add default via {network.host_address} metric {_LAST}",
        f"ip route add {METADATA_ADDRESS}/32 dev eth0",
        # A new namespace inherits the host's: user data that forgets to switch forwarding on shall fail.
        "echo 0 >/proc/sys/net/ipv4/ip_forward",
        # Plays the VPC: answers for a secondary address once the machine routes it to its pod. For no other: with proxy_arp
        # a machine that leads foreign packets to its pod (cloud routes) would answer for every machine.
        *(f"ip neigh add proxy {address} dev eth0" for address in instance.secondary_ips),
        "echo 0 >/proc/sys/net/ipv4/neigh/eth0/proxy_delay",
    ]
    _feed(["nsenter", f"--net={namespace}", "--", "sh", "-e"], "\n".join(inside))


def lead(namespace: Path, routes: Mapping[str, str]) -> None:
    """Plays the VPC's route table: what the machine sends to these ranges goes to the machine with that address.

    Raises:
        CalledProcessError: the kernel refused a step.
    """
    inside = [f"ip route flush proto {_VPC_ROUTES}"]
    inside += [f"ip route add {cidr} via {hop} dev eth0 proto {_VPC_ROUTES}" for cidr, hop in routes.items()]
    _feed(["nsenter", f"--net={namespace}", "--", "sh", "-e"], "\n".join(inside))


def unplug(network: Network, instance_id: str) -> None:
    """Removes the machine's port: a namespace that a dying process still holds keeps the pair alive."""
    if is_namespace(network.namespace_path):
        subprocess.run(
            network.enter("ip", "link", "del", _port(instance_id)), capture_output=True, check=False
        )


def listens(pid: int, port: int) -> bool:
    """Whether anything in that process's network namespace accepts TCP connections on the port.

    Read from the kernel's table: connecting would leave a line about a rude client in sshd's log.
    """
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                local, state = (line.split()[column] for column in (1, 3))
                if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                    return True
    return False


def _port(instance_id: str) -> str:
    """The bridge's port of that machine; an interface's name has at most 15 characters."""
    return f"p{instance_id[-12:]}"


def _feed(command: Sequence[str], text: str) -> None:
    subprocess.run(command, input=text, check=True, capture_output=True, text=True)
