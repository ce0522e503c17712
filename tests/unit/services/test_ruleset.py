"""Which Services and endpoints get into a ruleset, and in which words."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kip.bootstrap import layout
from kip.services import ruleset as module
from kip.services.model import Endpoint, EndpointSlice, Service, ServicePort
from kip.services.ruleset import compute, render, ruleset

GOLDEN = Path(__file__).parent / "golden" / "services.nft"
HTTP = ServicePort("http", "TCP", 80)


def service(name: str = "web", address: str = "10.96.0.10", **changes: Any) -> Service:
    values: dict[str, Any] = {"cluster_ips": (address,), "external_ips": (), "ports": (HTTP,)} | changes
    return Service("default", name, **values)


def behind(
    *addresses: str, name: str = "web", ready: bool = True, terminating: bool = False
) -> EndpointSlice:
    endpoints = tuple(Endpoint((address,), ready, terminating) for address in addresses)
    return EndpointSlice("default", name, endpoints, (ServicePort("http", "TCP", 8080),))


def backends(services: list[Service], slices: list[EndpointSlice]) -> set[tuple[str, int]]:
    return {backend for target in compute(services, slices).targets.values() for backend in target.backends}


def test_the_text_is_as_agreed() -> None:
    """Rewrite it after an intended change: KIP_REWRITE_GOLDEN=1 pytest tests/unit/services"""
    dns = ServicePort("dns", "UDP", 53)
    text = ruleset(
        [
            service(),
            service("one", "10.96.0.11", external_ips=("203.0.113.7",)),
            service("none", "10.96.0.12", external_ips=("203.0.113.8",)),
            Service("kube-system", "kube-dns", ("10.96.0.2",), (), (dns,)),
        ],
        [
            behind("10.0.0.3", "10.0.0.1"),
            behind("10.0.0.2"),
            behind("10.0.0.9", name="one"),
            EndpointSlice("kube-system", "kube-dns", (Endpoint(("10.0.0.4",), True, False),), (dns,)),
        ],
    )
    if os.environ.get("KIP_REWRITE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text(), f"{GOLDEN} differs; KIP_REWRITE_GOLDEN=1 rewrites it"


def test_the_pods_interface_is_the_cni_plugins() -> None:
    assert module.POD_INTERFACE == layout.POD_INTERFACE


@given(st.randoms(use_true_random=False))
def test_the_order_of_what_is_given_does_not_matter(chance: random.Random) -> None:
    services = [service(f"svc-{n}", f"10.96.0.{n}", external_ips=("203.0.113.7",)) for n in range(1, 9)]
    slices = [behind(f"10.0.{part}.{n}", name=f"svc-{n}") for n in range(1, 9) for part in range(3)]
    expected = ruleset(services, slices)
    chance.shuffle(services)
    chance.shuffle(slices)
    assert ruleset(services, slices) == expected


def test_endpoints_that_are_not_ready_get_nothing() -> None:
    assert backends([service()], [behind("10.0.0.1"), behind("10.0.0.2", ready=False)]) == {
        ("10.0.0.1", 8080)
    }


def test_terminating_endpoints_serve_when_no_other_does() -> None:
    leaving = behind("10.0.0.2", ready=False, terminating=True)
    assert backends([service()], [leaving]) == {("10.0.0.2", 8080)}
    assert backends([service()], [leaving, behind("10.0.0.1")]) == {("10.0.0.1", 8080)}


def test_an_endpoint_in_two_slices_counts_once() -> None:
    (target,) = compute([service()], [behind("10.0.0.1"), behind("10.0.0.1")]).targets.values()
    assert target.backends == (("10.0.0.1", 8080),)


def test_ports_are_matched_by_name_and_protocol() -> None:
    other = EndpointSlice(
        "default",
        "web",
        (Endpoint(("10.0.0.1",), True, False),),
        (ServicePort("metrics", "TCP", 9090), ServicePort("http", "UDP", 1)),
    )
    assert backends([service()], [other]) == set()


def test_slices_of_services_of_other_namespaces_are_others() -> None:
    foreign = EndpointSlice("other", "web", (Endpoint(("10.0.0.1",), True, False),), (HTTP,))
    assert backends([service()], [foreign]) == set()


def test_of_two_claims_on_an_external_address_the_first_by_name_has_it() -> None:
    shared = {"external_ips": ("203.0.113.7",)}
    rules = compute(
        [service("b", "10.96.0.2", **shared), service("a", "10.96.0.1", **shared)],
        [behind("10.0.0.1", name="a"), behind("10.0.0.2", name="b")],
    )
    assert rules.frontends["203.0.113.7", "tcp", 80] == "svc/default/a/tcp/80"


def test_a_cluster_ip_is_always_known_and_an_external_one_only_by_its_ports() -> None:
    rules = compute([service(external_ips=("203.0.113.7",))], [])
    assert rules.cluster_ips == {"10.96.0.10"}
    assert rules.refused == {("203.0.113.7", "tcp", 80)}


@given(st.integers(3, 12), st.data())
def test_affinity_moves_only_the_clients_of_an_endpoint_that_goes(count: int, data: st.DataObject) -> None:
    addresses = [f"10.0.0.{n}" for n in range(1, count + 1)]
    gone = data.draw(st.sampled_from(addresses))
    before, after = (
        slots([service(sticky=True)], [behind(*(a for a in addresses if a != left_out))])
        for left_out in (None, gone)
    )
    moved = [slot for slot in before if before[slot] != after[slot]]
    assert moved == [slot for slot in before if before[slot].startswith(f"{gone} ")]
    assert moved


def test_affinity_spreads_clients_over_all_endpoints() -> None:
    shares = list(slots([service(sticky=True)], [behind(*(f"10.0.0.{n}" for n in range(1, 5)))]).values())
    assert all(30 < shares.count(backend) < 100 for backend in set(shares))
    assert len(set(shares)) == 4


def slots(services: list[Service], slices: list[EndpointSlice]) -> dict[str, str]:
    (line,) = [line for line in ruleset(services, slices).splitlines() if "jhash" in line]
    entries = line.partition("map {")[2].rstrip(" }").split(",")
    return {
        slot.strip(): backend.strip() for slot, _, backend in (entry.partition(" : ") for entry in entries)
    }


def test_without_services_there_are_no_empty_lists() -> None:
    text = render(compute([], []))
    assert "elements" not in text
    assert "hook prerouting" in text
