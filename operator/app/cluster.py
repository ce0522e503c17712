"""What the operator learns from the cluster before it begins."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

from kip.config import Settings
from kip.kube.client import ApiClient
from kip.kube.errors import NotFound


class CannotStart(Exception):
    """Something is missing that a person must bring; the text says what and where."""


@dataclass(frozen=True)
class ClusterFacts:
    """The cluster as this installation sees it."""

    name: str
    """Tells its instances from those of other clusters in the account."""
    version: str
    """`v1.36.3`."""
    minor: str
    """`1.36`."""
    dns: tuple[str, ...]
    node_ip: str


async def learn(client: ApiClient, settings: Settings) -> ClusterFacts:
    """Ask the API server; raises KubeError, CannotStart."""
    version = (await client.get("/version"))["gitVersion"]
    return ClusterFacts(
        name=await name_of(client, settings),
        version=version,
        minor=minor_of(version),
        dns=await dns_of(client, settings),
        node_ip=str(settings.kubelet.node_ip or _own_address(client.server)),
    )


async def name_of(client: ApiClient, settings: Settings) -> str:
    """The cluster's name as it is in tags; raises KubeError."""
    return settings.cluster.name or await _cluster_uid(client)


async def dns_of(client: ApiClient, settings: Settings) -> tuple[str, ...]:
    """Addresses of the cluster's DNS; raises KubeError, CannotStart."""
    return settings.cluster.dns or await _cluster_dns(client)


async def _cluster_uid(client: ApiClient) -> str:
    return str((await client.get("/api/v1/namespaces/kube-system"))["metadata"]["uid"])


async def _cluster_dns(client: ApiClient) -> tuple[str, ...]:
    try:
        service = await client.get("/api/v1/namespaces/kube-system/services/kube-dns")
    except NotFound:
        raise CannotStart(
            "the cluster's DNS is not the Service kube-system/kube-dns; set cluster.dns in provider.yaml"
        ) from None
    return tuple(ip for ip in service["spec"].get("clusterIPs") or () if ":" not in ip)


def minor_of(version: str) -> str:
    """`1.36` of `v1.36.3`; raises CannotStart."""
    match = re.match(r"v?(\d+\.\d+)", version)
    if match is None:
        raise CannotStart(f"the API server's version {version!r} is not like v1.36.3")
    return match[1]


def _own_address(server: str) -> str:
    """The address from which this machine reaches the API server: where that, in turn, may reach us."""
    host, port = _host_port(server)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, port))  # a UDP socket sends nothing by that
            return str(probe.getsockname()[0])
    except OSError as error:
        raise CannotStart(
            f"no address of this machine leads to {server} ({error}); set kubelet.nodeIP in provider.yaml"
        ) from None


def _host_port(server: str) -> tuple[str, int]:
    match = re.match(r"https?://\[?([^\]/:]+)\]?(?::(\d+))?", server)
    if match is None:
        raise CannotStart(f"the API server's address {server!r} is no URL")
    return match[1], int(match[2] or 443)
