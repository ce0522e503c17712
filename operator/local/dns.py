"""Cluster DNS: CoreDNS as a process beside the control plane, behind the Service kube-system/kube-dns.

It answers for the cluster's own zone and for nothing else, and asks nobody: any other name does not exist.
"""

from __future__ import annotations

import os
import socket
import struct
import urllib.request
from typing import Any
from urllib.error import HTTPError

from kip.local.api import Api
from kip.local.build import COREDNS, program
from kip.local.parts import ProcessPart
from kip.local.pki import ControlPlanePki
from kip.local.processes import Command
from kip.local.world import World, write_atomically

_RECURSION_DESIRED, _ADDRESS, _INTERNET = 0x0100, 1, 1  # a query's flag, type and class

_ACCOUNT = "coredns"
_SERVICE = "kube-dns"
_NAMESPACE = "kube-system"


class Dns(ProcessPart):
    """CoreDNS and the objects that make it the cluster's."""

    name = "dns"
    needs = ("apiserver",)
    builds = (COREDNS,)
    root_only = True  # without root it would listen on the loopback, which no EndpointSlice may name

    def start(self) -> None:
        """Gives CoreDNS its account and its Service, then starts it."""
        api = Api(self.world)
        for manifest in manifests(self.world):
            api.apply(manifest)
        super().start()

    def command(self) -> Command:
        """CoreDNS with its configuration, as the service account kube-system/coredns."""
        user = f"system:serviceaccount:{_NAMESPACE}:{_ACCOUNT}"
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{_NAMESPACE}"]
        path = ControlPlanePki(self.world).kubeconfig(self.world.pki / "coredns.kubeconfig", user, groups)
        configuration = self.world.state / "Corefile"
        write_atomically(configuration, corefile(self.world, str(path)))
        return Command(self.name, (str(program(COREDNS, "coredns")), "-conf", str(configuration)))

    def answer(self) -> str | None:
        """Asks CoreDNS whether it has listed Services and EndpointSlices, then for the first of all names."""
        try:
            with urllib.request.urlopen(f"{self.world.url('dns-health')}/ready", timeout=5):
                pass
        except HTTPError as error:
            return f"/ready answers {error.code}: {error.read().decode(errors='replace').strip()}"
        code, addresses = ask(self.world.address("dns"), "kubernetes.default.svc.cluster.local")
        return None if addresses else f"kubernetes.default.svc.cluster.local has no address (code {code})"


def ask(server: tuple[str, int], name: str) -> tuple[int, list[str]]:
    """Asks for the name's IPv4 address (RFC 1035): the answer's code, 0 for success, and its last address.

    Raises:
        OSError: nobody listens there, or the answer does not come within a second.
    """
    identity = os.urandom(2)
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    header = struct.pack(">HHHHH", _RECURSION_DESIRED, 1, 0, 0, 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        # Connected, a datagram to a port where nobody listens is an error at once.
        client.connect(server)
        client.send(identity + header + labels + b"\0" + struct.pack(">HH", _ADDRESS, _INTERNET))
        answer = client.recv(512)
    if answer[:2] != identity:
        raise ConnectionError(f"{server[0]}:{server[1]} answered another question")
    code, count = answer[3] & 0xF, struct.unpack(">H", answer[6:8])[0]
    return code, [socket.inet_ntoa(answer[-4:])] if count else []  # an A record ends with its address


def corefile(world: World, kubeconfig: str) -> str:
    """CoreDNS's configuration. Answers live 5 s, as in kubeadm's, so that a changed Service is soon seen."""
    address, port = world.address("dns")
    health, health_port = world.address("dns-health")
    return f"""\
cluster.local:{port} in-addr.arpa:{port} ip6.arpa:{port} {{
    bind {address}
    errors
    ready {health}:{health_port}
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
        ttl 5
    }}
    loadbalance
}}
.:{port} {{
    bind {address}
    errors
    template ANY ANY . {{
        rcode NXDOMAIN
    }}
}}
"""


def manifests(world: World) -> list[dict[str, Any]]:
    """CoreDNS's account and what it may read; the Service without a selector and the address behind it."""
    address, port = world.address("dns")
    role = "system:coredns"
    ports = [("dns", "UDP"), ("dns-tcp", "TCP")]
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": _ACCOUNT, "namespace": _NAMESPACE},
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": role},
            "rules": [
                {
                    "apiGroups": [""],
                    "resources": ["services", "pods", "namespaces"],
                    "verbs": ["list", "watch"],
                },
                {
                    "apiGroups": ["discovery.k8s.io"],
                    "resources": ["endpointslices"],
                    "verbs": ["list", "watch"],
                },
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": _ACCOUNT, "namespace": _NAMESPACE}],
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": _SERVICE, "namespace": _NAMESPACE, "labels": {"k8s-app": _SERVICE}},
            "spec": {
                "clusterIP": str(world.cluster_dns),
                "ports": [
                    {"name": name, "protocol": protocol, "port": 53, "targetPort": port}
                    for name, protocol in ports
                ],
            },
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": _SERVICE,
                "namespace": _NAMESPACE,
                "labels": {
                    "kubernetes.io/service-name": _SERVICE,
                    "endpointslice.kubernetes.io/managed-by": "kip-local",
                },
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
            "ports": [{"name": name, "protocol": protocol, "port": port} for name, protocol in ports],
        },
    ]
