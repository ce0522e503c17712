"""Kubernetes objects as the API gives them."""

from __future__ import annotations

from typing import Any

import pytest

from kip.services.model import Endpoint, EndpointSlice, Service, ServicePort, service_from, slice_from


def a_service(
    status: dict[str, Any] | None = None, labels: dict[str, str] | None = None, **spec: Any
) -> dict[str, Any]:
    base = {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "ports": [{"port": 80}]}
    return {
        "metadata": {"namespace": "default", "name": "web", "labels": labels},
        "spec": base | spec,
        "status": status,
    }


def a_slice(*endpoints: dict[str, Any], **changes: Any) -> dict[str, Any]:
    base = {
        "metadata": {
            "namespace": "default",
            "name": "web-x",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "endpoints": list(endpoints),
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
    }
    return base | changes


def test_a_plain_service() -> None:
    assert service_from(a_service()) == Service(
        "default", "web", ("10.96.0.10",), (), (ServicePort("", "TCP", 80),)
    )


def test_every_protocol_and_name_is_kept() -> None:
    ports = [
        {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": "dns"},
        {"name": "dns-tcp", "protocol": "TCP", "port": 53},
        {"name": "sctp", "protocol": "SCTP", "port": 9},
    ]
    service = service_from(a_service(ports=ports))
    assert service
    assert service.ports == (
        ServicePort("dns", "UDP", 53),
        ServicePort("dns-tcp", "TCP", 53),
        ServicePort("sctp", "SCTP", 9),
    )


@pytest.mark.parametrize(
    "obj",
    [
        a_service(clusterIP="None", clusterIPs=["None"]),
        a_service(type="ExternalName", clusterIP="", clusterIPs=None, externalName="example.org", ports=None),
        a_service(clusterIP="fd00::1", clusterIPs=["fd00::1"]),
        a_service(labels={"service.kubernetes.io/service-proxy-name": "mine"}),
    ],
    ids=["headless", "external name", "IPv6 only", "another proxy's"],
)
def test_services_that_are_not_a_cells_business(obj: dict[str, Any]) -> None:
    assert service_from(obj) is None


def test_of_two_families_the_ipv4_address_counts() -> None:
    service = service_from(a_service(clusterIP="fd00::1", clusterIPs=["fd00::1", "10.96.0.11"]))
    assert service
    assert service.cluster_ips == ("10.96.0.11",)


def test_external_addresses_and_those_of_a_load_balancer() -> None:
    ingress = [
        {"ip": "203.0.113.1"},
        {"ip": "203.0.113.2", "ipMode": "VIP"},
        {"ip": "203.0.113.3", "ipMode": "Proxy"},
        {"hostname": "lb.example.org"},
    ]
    service = service_from(
        a_service(externalIPs=["198.51.100.1"], status={"loadBalancer": {"ingress": ingress}})
    )
    assert service
    assert service.external_ips == ("198.51.100.1", "203.0.113.1", "203.0.113.2")


def test_affinity() -> None:
    service = service_from(a_service(sessionAffinity="ClientIP"))
    assert service
    assert service.sticky


@pytest.mark.parametrize(
    ("conditions", "ready", "serving_while_terminating"),
    [
        (None, True, False),
        ({}, True, False),
        ({"ready": True, "serving": True, "terminating": False}, True, False),
        ({"ready": False}, False, False),
        ({"ready": False, "serving": False, "terminating": True}, False, False),
        ({"ready": False, "serving": True, "terminating": True}, False, True),
        ({"ready": False, "serving": True, "terminating": False}, False, False),
    ],
)
def test_conditions_of_an_endpoint(
    conditions: dict[str, bool] | None, ready: bool, serving_while_terminating: bool
) -> None:
    parsed = slice_from(a_slice({"addresses": ["10.0.0.1"], "conditions": conditions}))
    assert parsed == EndpointSlice(
        "default",
        "web",
        (Endpoint(("10.0.0.1",), ready, serving_while_terminating),),
        (ServicePort("", "TCP", 8080),),
    )


@pytest.mark.parametrize(
    "changes",
    [{"addressType": "IPv6"}, {"addressType": "FQDN"}, {"metadata": {"namespace": "default", "name": "x"}}],
)
def test_slices_that_are_not_a_cells_business(changes: dict[str, Any]) -> None:
    assert slice_from(a_slice(**changes)) is None


def test_a_slice_without_anything_in_it() -> None:
    assert slice_from(a_slice(endpoints=None, ports=None)) == EndpointSlice("default", "web", (), ())


@pytest.mark.parametrize("address", ["10.0.0.1; flush ruleset", "10.0.0.1 }", "", "10.0.0.300"])
def test_what_is_no_address_does_not_get_into_a_ruleset(address: str) -> None:
    parsed = slice_from(a_slice({"addresses": [address, "10.0.0.2"]}))
    assert parsed
    assert parsed.endpoints[0].addresses == ("10.0.0.2",)
