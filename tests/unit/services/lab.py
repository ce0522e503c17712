"""A cell's network in throw-away namespaces, on which a ruleset can be tried.

    pod (10.0.0.9) -- kip0 [cell 10.0.0.1] eth0 -- net (10.0.1.1, .2, .3: servers; 8.8.8.8)

Run as `unshare --net --mount python lab.py`, reads what to do as JSON and writes what it saw as JSON.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator

SERVER = """
import socket, sys
address, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if kind == "udp":
    server = socket.socket(type=socket.SOCK_DGRAM)
    server.bind((address, port))
    print("up", flush=True)
    while True:
        _, client = server.recvfrom(100)
        server.sendto(f"{address}:{port} {client[0]}".encode(), client)
server = socket.create_server((address, port))
print("up", flush=True)
while True:
    connection, client = server.accept()
    connection.sendall(f"{address}:{port} {client[0]}".encode())
    connection.close()
"""
CLIENT = """
import socket, sys, time, json
def ask(address, port, kind):
    began = time.monotonic()
    try:
        with socket.socket(type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as s:
            s.settimeout(1.5)
            s.connect((address, port))
            if kind == "udp":
                s.send(b"?")
            return s.recv(100).decode()
    except OSError as error:
        return f"{type(error).__name__} after {time.monotonic() - began:.0f} s"
print(json.dumps([ask(*probe) for probe in json.load(sys.stdin)]))
"""


def sh(*lines: str) -> None:
    for line in lines:
        subprocess.run(line.split(), check=True, stdout=subprocess.DEVNULL)


def inside(namespace: str, *command: str) -> list[str]:
    return [*command] if namespace == "cell" else ["ip", "netns", "exec", namespace, *command]


def build() -> None:
    sh(
        "mount -t tmpfs none /run",
        "mkdir -p /run/netns",
        "ip link set lo up",
        "ip netns add pod",
        "ip netns add net",
        "ip link add kip0 type veth peer name eth0 netns pod",
        "ip link add eth0 type veth peer name eth0 netns net",
        "ip addr add 10.0.0.1/24 dev eth0",
        "ip link set eth0 up",
        "ip link set kip0 up",
        "ip route add 10.0.0.9/32 dev kip0 src 10.0.0.1",
        "ip route add default via 10.0.0.2",
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.kip0.proxy_arp=1 net.ipv4.neigh.kip0.proxy_delay=0",
        "ip -n pod link set lo up",
        "ip -n pod addr add 10.0.0.9/32 dev eth0",
        "ip -n pod link set eth0 up",
        "ip -n pod route add 10.0.0.1 dev eth0 scope link",
        "ip -n pod route add default via 10.0.0.1",
        "ip -n net link set lo up",
        "ip -n net addr add 10.0.0.2/24 dev eth0",
        "ip -n net link set eth0 up",
        "ip -n net route add 10.0.0.9/32 via 10.0.0.1",
    )
    for address in ("10.0.1.1", "10.0.1.2", "10.0.1.3", "203.0.113.7"):
        sh(f"ip -n net addr add {address}/32 dev lo")


@contextlib.contextmanager
def serve(namespace: str, address: str, port: int, kind: str) -> Iterator[None]:
    command = inside(namespace, sys.executable, "-c", SERVER, address, str(port), kind)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            assert server.stdout.readline() == "up\n"
            yield
        finally:
            server.kill()


def load(ruleset: str) -> float:
    began = time.monotonic()
    subprocess.run(["nft", "-f", "-"], input=ruleset, text=True, check=True)
    return time.monotonic() - began


def main() -> None:
    task = json.load(sys.stdin)
    build()
    with contextlib.ExitStack() as servers:
        for server in task["servers"]:
            servers.enter_context(serve(*server))
        seconds = [load(ruleset) for ruleset in task["rulesets"]]
        answers = []
        for namespace, probes in task["probes"]:
            command = inside(namespace, sys.executable, "-c", CLIENT)
            done = subprocess.run(
                command, input=json.dumps(probes), text=True, capture_output=True, check=True
            )
            answers.append(json.loads(done.stdout))
        table = subprocess.run(["nft", "list", "ruleset"], text=True, capture_output=True, check=True).stdout
    json.dump({"answers": answers, "seconds": seconds, "table": table}, sys.stdout)


if __name__ == "__main__":
    main()
