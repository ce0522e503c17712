"""The CNI plugin in the network and mount namespaces of a cell that is not there.

pod -- kip0 [cell 10.77.0.11] eth0 -- net (10.77.0.1 within the VPC, 8.8.8.8 outside)
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from kip.bootstrap.files import cell_files, script
from kip.bootstrap.layout import CNI_PLUGIN, SSH_PORT
from kip.bootstrap.layout import OPTIONS as OPTIONS_FILE
from kip.bootstrap.options import BootstrapOptions

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("nft", "jq", "unshare"))),
    reason="needs root, nft and jq",
)

POD, CELL, NEIGHBOUR, OUTSIDE = "10.77.0.12", "10.77.0.11", "10.77.0.1", "8.8.8.8"
OPTIONS = BootstrapOptions(
    node_name="kip-provider-0",
    cluster_dns=(),
    first_contact_host_key="-----BEGIN OPENSSH PRIVATE KEY-----\n",
    operator_public_key="ssh-ed25519 AAAA",
    operator_ca_pem="-----BEGIN CERTIFICATE-----",
    dead_man_switch_s=600,
    vpc_cidrs=("10.77.0.0/24",),
)
CONFIG = {"cniVersion": "1.0.0", "name": "kip", "type": "kip"}
SERVER = (
    "import socket,sys\ns=socket.create_server((sys.argv[1],int(sys.argv[2])))\nprint('up',flush=True)\n"
    "while True:\n c,a=s.accept();c.sendall((sys.argv[3] or a[0]).encode());c.close()"
)
CLIENT = (
    "import socket,sys\ns=socket.create_connection((sys.argv[1],int(sys.argv[2])),2)\n"
    "print(s.recv(100).decode(),end='')"
)


class Cell:
    """Commands run inside the cell's namespaces."""

    def __init__(self) -> None:
        hold = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", "echo; exec sleep 600"]
        self.holder = subprocess.Popen(hold, stdout=subprocess.PIPE)
        assert self.holder.stdout
        self.holder.stdout.readline()
        self.files = {file.path: file.content for file in cell_files(OPTIONS)}

    def command(self, *command: str, namespace: str | None = None) -> list[str]:
        inside = ["ip", "netns", "exec", namespace] if namespace else []
        return ["nsenter", f"--target={self.holder.pid}", "--net", "--mount", *inside, *command]

    def run(self, *lines: str) -> str:
        output = ""
        for line in lines:
            output += subprocess.run(
                self.command("sh", "-c", line), check=True, capture_output=True, text=True
            ).stdout
        return output

    def cni(self, verb: str, sandbox: str, pod: str = "uid-1", **config: Any) -> tuple[int, dict[str, Any]]:
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": sandbox,
            "CNI_NETNS": f"/run/netns/{sandbox}",
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_UID={pod}",
        }
        done = subprocess.run(
            self.command("bash", "-c", self.files[CNI_PLUGIN]),
            input=json.dumps(CONFIG | config),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, json.loads(done.stdout or "{}")

    @contextlib.contextmanager
    def server(self, address: str, port: int, namespace: str | None, says: str = "") -> Iterator[None]:
        """Tells each client its address, or what it `says`."""
        command = self.command(sys.executable, "-c", SERVER, address, str(port), says, namespace=namespace)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout
                assert process.stdout.readline() == "up\n"
                yield
            finally:
                process.kill()

    def seen_from(self, namespace: str | None, address: str, port: int) -> str:
        """The address under which a server there sees a client here."""
        command = self.command(sys.executable, "-c", CLIENT, address, str(port), namespace=namespace)
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def cell() -> Iterator[Cell]:
    made = Cell()
    try:
        options = made.files[OPTIONS_FILE].replace("'", '"')
        made.run(
            "mount -t tmpfs none /run && mkdir /run/netns",
            "mount -t tmpfs none /etc && mkdir /etc/kip",
            f"printf 'PRIMARY={CELL}\\nPOD={POD}\\nDEVICE=eth0\\n' >/etc/kip/network",
            f"printf %s '{options}' >/etc/kip/options",
            "ip link set lo up",
            "ip netns add net; ip netns add a; ip netns add b",
            "ip link add eth0 mtu 1400 type veth peer name eth0 netns net",
            f"ip addr add {CELL}/24 dev eth0",
            "ip link set eth0 up",
            f"ip route add default via {NEIGHBOUR}",
            f"ip -n net addr add {NEIGHBOUR}/24 dev eth0; ip -n net addr add {OUTSIDE}/32 dev lo",
            "ip -n net link set eth0 up; ip -n net link set lo up",
            "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv4/conf/eth0/proxy_arp",
            "echo 0 >/proc/sys/net/ipv4/neigh/eth0/proxy_delay",
        )
        yield made
    finally:
        made.holder.kill()
        made.holder.wait()


def test_add_tells_what_it_made(cell: Cell) -> None:
    code, result = cell.cni("ADD", "a")
    assert code == 0
    assert result["cniVersion"] == "1.0.0"
    assert result["ips"] == [{"interface": 1, "address": f"{POD}/32", "gateway": "169.254.1.1"}]
    assert result["interfaces"][1]["sandbox"] == "/run/netns/a"
    assert cell.cni("CHECK", "a")[0] == 0
    assert "mtu 1400" in cell.run("ip -n a link show dev eth0")


def test_the_vpc_sees_the_pods_address_and_the_world_the_cells(cell: Cell) -> None:
    cell.cni("ADD", "a")
    with cell.server(NEIGHBOUR, 99, "net"), cell.server(OUTSIDE, 99, "net"):
        assert cell.seen_from("a", NEIGHBOUR, 99) == POD
        assert cell.seen_from("a", OUTSIDE, 99) == CELL


def test_cell_and_neighbours_reach_the_pod(cell: Cell) -> None:
    cell.cni("ADD", "a")
    with cell.server(POD, 80, "a"):
        assert cell.seen_from(None, POD, 80) == CELL
        assert cell.seen_from("net", POD, 80) == NEIGHBOUR


@pytest.mark.parametrize(
    "mapping",
    [
        {"HostPort": 8080, "ContainerPort": 80, "Protocol": "TCP", "HostIP": ""},
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": CELL},
    ],
)
def test_a_host_port_leads_to_the_pod_also_from_itself(cell: Cell, mapping: dict[str, Any]) -> None:
    code, _ = cell.cni("ADD", "a", runtimeConfig={"portMappings": [mapping]})
    assert code == 0
    with cell.server(POD, 80, "a"):
        assert cell.seen_from("net", CELL, 8080) == NEIGHBOUR
        assert cell.seen_from(None, CELL, 8080) == CELL
        assert cell.seen_from("a", CELL, 8080) == CELL


def test_the_operators_port_is_never_the_pods(cell: Cell) -> None:
    mappings = [{"hostPort": port, "containerPort": 80, "protocol": "tcp"} for port in (SSH_PORT, 8080)]
    assert cell.cni("ADD", "a", runtimeConfig={"portMappings": mappings})[0] == 0
    with cell.server(POD, 80, "a"), cell.server(CELL, SSH_PORT, None, says="the cell's sshd"):
        assert cell.seen_from("net", CELL, 8080) == NEIGHBOUR
        for client in ("net", None, "a"):
            assert cell.seen_from(client, CELL, SSH_PORT) == "the cell's sshd"


def test_what_a_route_of_the_vpc_brings_for_others_goes_to_the_pod_and_back_as_it_is(cell: Cell) -> None:
    """Strict reverse path filters are what some images have."""
    cell.run("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 >$f; done")
    assert cell.cni("ADD", "a")[0] == 0
    behind = "172.20.5.5"
    cell.run(f"ip -n net route add 172.20.0.0/16 via {CELL}; ip -n a addr add {behind}/32 dev lo")
    with cell.server(behind, 80, "a"), cell.server(NEIGHBOUR, 99, "net"), cell.server(CELL, 81, None):
        assert cell.seen_from("net", behind, 80) == NEIGHBOUR
        assert cell.seen_from("net", CELL, 81) == NEIGHBOUR, "what is for the cell stays there"
        assert cell.seen_from("a", NEIGHBOUR, 99) == POD


def test_the_cell_itself_sends_nothing_that_way(cell: Cell) -> None:
    assert cell.cni("ADD", "a")[0] == 0
    assert f"via {NEIGHBOUR} dev eth0" in cell.run("ip route get 172.20.5.5")


def test_the_pods_address_is_taken_off_the_cells_own_interface(cell: Cell) -> None:
    cell.run(f"ip addr add {POD}/32 dev eth0")
    assert cell.cni("ADD", "a")[0] == 0
    with cell.server(POD, 80, "a"):
        assert cell.seen_from("net", POD, 80) == NEIGHBOUR


def test_another_pod_does_not_get_the_address_while_it_is_used(cell: Cell) -> None:
    cell.cni("ADD", "a", "uid-1")
    code, error = cell.cni("ADD", "b", "uid-2")
    assert code == 1
    assert error["code"] == 11  # try again later
    assert "in use by pod uid-1" in error["msg"]
    assert cell.cni("CHECK", "a")[0] == 0


def test_a_new_sandbox_of_the_pod_takes_over_and_the_old_ones_end_does_not_hurt(cell: Cell) -> None:
    cell.cni("ADD", "a")
    assert cell.cni("ADD", "b")[0] == 0
    assert cell.cni("DEL", "a") == (0, {})
    assert cell.cni("CHECK", "b")[0] == 0
    assert cell.cni("CHECK", "a")[1]["code"] == 101
    with cell.server(POD, 80, "b"):
        assert cell.seen_from("net", POD, 80) == NEIGHBOUR


def test_a_sandbox_that_vanished_without_del_does_not_keep_the_address(cell: Cell) -> None:
    cell.cni("ADD", "a", "uid-1")
    cell.run("ip netns del a")
    assert cell.cni("ADD", "b", "uid-2")[0] == 0


def test_del_leaves_nothing_and_may_be_repeated(cell: Cell) -> None:
    cell.cni("ADD", "a")
    for _ in range(2):
        assert cell.cni("DEL", "a") == (0, {})
    assert "kip0" not in cell.run("ip link")
    assert POD not in cell.run("ip route show table all")
    assert "1070" not in cell.run("ip rule")
    assert cell.run("nft list tables") == ""


def test_a_failed_add_says_where_and_can_be_cleaned_up(cell: Cell) -> None:
    code, error = cell.cni("ADD", "gone")
    assert code == 1
    assert error["code"] == 999
    assert "ip link add" in error["msg"]
    assert cell.cni("DEL", "gone") == (0, {})
    assert cell.cni("ADD", "a", "uid-2")[0] == 0


def test_a_cell_without_network_facts_asks_to_wait(cell: Cell) -> None:
    cell.run("rm /etc/kip/network")
    assert cell.cni("STATUS", "a")[1]["code"] == 50


def test_version_and_unknown_commands(cell: Cell) -> None:
    assert "1.0.0" in cell.cni("VERSION", "a")[1]["supportedVersions"]
    assert cell.cni("STATUS", "a")[0] == 0
    assert cell.cni("DANCE", "a")[1]["code"] == 4


def test_a_pod_speaks_no_nfs_where_there_is_an_image_cache_and_its_machine_does(cell: Cell) -> None:
    cell.cni("ADD", "a")
    guard, end = script("mount-volume").partition("nft -f")[1:], "\nEND\n"
    ruleset = "".join(guard).partition(end)[0] + end
    with cell.server(NEIGHBOUR, 2049, "net"), cell.server(NEIGHBOUR, 2050, "net"):
        assert cell.seen_from("a", NEIGHBOUR, 2049) == POD
        for _ in range(2):  # as after a reboot, or when it is tried again
            cell.run(ruleset)
        with pytest.raises(subprocess.CalledProcessError):
            cell.seen_from("a", NEIGHBOUR, 2049)
        assert cell.seen_from("a", NEIGHBOUR, 2050) == POD
        assert cell.seen_from(None, NEIGHBOUR, 2049) == CELL
