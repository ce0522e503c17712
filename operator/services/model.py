"""Of Services and EndpointSlices, what a packet's way depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
OTHER_PROXY_LABEL = "service.kubernetes.io/service-proxy-name"
PROTOCOLS = frozenset({"TCP", "UDP", "SCTP"})


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port of a Service; `name` is what its EndpointSlices call it, empty if the Service has only one."""

    name: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True)
class Service:
    """A Service that is reached at addresses of its own."""

    namespace: str
    name: str
    cluster_ips: tuple[str, ...]
    external_ips: tuple[str, ...]
    """`spec.externalIPs`, and the load balancer's addresses unless it wants to see the traffic itself."""
    ports: tuple[ServicePort, ...]
    sticky: bool = False
    """`sessionAffinity: ClientIP`."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Addresses behind a Service, and whether they should get traffic."""

    addresses: tuple[str, ...]
    ready: bool
    serving_while_terminating: bool


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """A part of a Service's endpoints, all with the same ports."""

    namespace: str
    service: str
    endpoints: tuple[Endpoint, ...]
    ports: tuple[ServicePort, ...]


def service_from(obj: Mapping[str, Any]) -> Service | None:
    """A core/v1 Service object; None if cells have nothing to do with it.

    That is: headless, ExternalName, without an IPv4 address, or left to another proxy by its label.
    """
    metadata, spec = obj["metadata"], obj.get("spec") or {}
    if OTHER_PROXY_LABEL in (metadata.get("labels") or {}):
        return None
    cluster_ips = _ipv4(spec.get("clusterIPs") or [spec.get("clusterIP")])
    if not cluster_ips:
        return None
    balancer = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    balanced = [entry.get("ip") for entry in balancer if entry.get("ipMode", "VIP") == "VIP"]
    return Service(
        namespace=metadata["namespace"],
        name=metadata["name"],
        cluster_ips=cluster_ips,
        external_ips=_ipv4([*(spec.get("externalIPs") or []), *balanced]),
        ports=_ports(spec.get("ports")),
        sticky=spec.get("sessionAffinity") == "ClientIP",
    )


def slice_from(obj: Mapping[str, Any]) -> EndpointSlice | None:
    """A discovery.k8s.io/v1 EndpointSlice object; None if it is not about IPv4 or belongs to no Service."""
    metadata = obj["metadata"]
    service = (metadata.get("labels") or {}).get(SERVICE_NAME_LABEL)
    if obj.get("addressType") != "IPv4" or not service:
        return None
    return EndpointSlice(
        namespace=metadata["namespace"],
        service=service,
        endpoints=tuple(_endpoint(entry) for entry in obj.get("endpoints") or ()),
        ports=_ports(obj.get("ports")),
    )


def _endpoint(entry: Mapping[str, Any]) -> Endpoint:
    conditions = entry.get("conditions") or {}
    # Unknown means ready, and serving means ready where it is not told (discovery/v1 EndpointConditions).
    ready = conditions.get("ready") is not False
    serving = conditions.get("serving", ready) is not False
    return Endpoint(
        addresses=_ipv4(entry.get("addresses") or ()),
        ready=ready,
        serving_while_terminating=bool(serving and conditions.get("terminating")),
    )


def _ports(entries: Sequence[Mapping[str, Any]] | None) -> tuple[ServicePort, ...]:
    return tuple(
        ServicePort(entry.get("name") or "", protocol, int(entry["port"]))
        for entry in entries or ()
        if (protocol := entry.get("protocol") or "TCP") in PROTOCOLS and entry.get("port")
    )


def _ipv4(addresses: Sequence[str | None]) -> tuple[str, ...]:
    """Those that are IPv4 addresses: also what would otherwise get into a ruleset as it is."""
    found = []
    for address in addresses:
        try:
            found.append(str(IPv4Address(address or "")))
        except ValueError:
            continue
    return tuple(found)
