"""CoreDNS's configuration and the objects that lead to it."""

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from kip.local.dns import corefile, manifests
from kip.local.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World("unit", tmp_path, IPv4Network("10.78.0.0/24"), True, {"dns": 5353, "dns-health": 5380})


def test_nothing_is_forwarded_and_other_names_do_not_exist(world: World) -> None:
    text = corefile(world, "/k")
    assert "forward" not in text
    assert "rcode NXDOMAIN" in text
    assert "bind 10.78.0.1" in text
    assert "cluster.local:5353 " in text


def test_the_service_leads_to_the_process(world: World) -> None:
    found = {manifest["kind"]: manifest for manifest in manifests(world)}
    service, endpoints = found["Service"], found["EndpointSlice"]
    assert service["spec"]["clusterIP"] == "10.96.0.10"
    assert "selector" not in service["spec"]
    assert {port["protocol"] for port in service["spec"]["ports"]} == {"UDP", "TCP"}
    assert endpoints["metadata"]["labels"]["kubernetes.io/service-name"] == service["metadata"]["name"]
    assert endpoints["endpoints"][0]["addresses"] == ["10.78.0.1"]
    assert {port["port"] for port in endpoints["ports"]} == {5353}
    assert [port["name"] for port in endpoints["ports"]] == [
        port["name"] for port in service["spec"]["ports"]
    ]
