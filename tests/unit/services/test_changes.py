"""Changes of rulesets: in words, and in the kernel."""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import re
import shutil
import subprocess

import pytest

from kip.services.changes import Flow, delta, stale_flows
from kip.services.model import Endpoint, EndpointSlice, Service, ServicePort
from kip.services.ruleset import Ruleset, compute, render

DNS = ServicePort("dns", "UDP", 53)
HTTP = ServicePort("http", "TCP", 80)


def service(name: str, address: str, port: ServicePort = HTTP, external: tuple[str, ...] = ()) -> Service:
    return Service("default", name, (address,), external, (port,))


def behind(name: str, *addresses: str, port: ServicePort = HTTP) -> EndpointSlice:
    endpoints = tuple(Endpoint((address,), True, False) for address in addresses)
    return EndpointSlice("default", name, endpoints, (port,))


def rules(*addresses: str) -> Ruleset:
    return compute([service("web", "10.96.0.1")], [behind("web", *addresses)])


def test_nothing_differs() -> None:
    assert delta(rules("10.0.0.1"), rules("10.0.0.1")) == ""


def test_another_endpoint_changes_one_chain() -> None:
    assert delta(rules("10.0.0.1"), rules("10.0.0.2")).splitlines() == [
        "add chain ip kip-services svc/default/web/tcp/80",
        "flush chain ip kip-services svc/default/web/tcp/80",
        "add rule ip kip-services svc/default/web/tcp/80 meta l4proto tcp dnat ip to 10.0.0.2:80",
    ]


def test_the_last_endpoint_goes() -> None:
    assert delta(rules("10.0.0.1"), rules()).splitlines() == [
        "delete element ip kip-services frontends { 10.96.0.1 . tcp . 80 : goto svc/default/web/tcp/80 }",
        "flush chain ip kip-services svc/default/web/tcp/80",
    ]


def test_a_change_is_small_however_many_services_there_are() -> None:
    services = [service(f"svc-{n}", f"10.96.1.{n}") for n in range(200)]
    before = [behind(f"svc-{n}", "10.0.0.1") for n in range(200)]
    after = [*before[:-1], behind("svc-199", "10.0.0.2")]
    assert len(delta(compute(services, before), compute(services, after))) < 300


def test_flows_to_a_backend_that_is_gone_are_stale() -> None:
    services = [service("dns", "10.96.0.2", DNS, ("203.0.113.1",)), service("web", "10.96.0.1")]
    before = compute(services, [behind("dns", "10.0.0.1", "10.0.0.2", port=DNS), behind("web", "10.0.0.1")])
    after = compute(services, [behind("dns", "10.0.0.2", "10.0.0.3", port=DNS)])
    assert stale_flows(before, after) == (
        Flow("10.96.0.2", 53, "10.0.0.1"),
        Flow("203.0.113.1", 53, "10.0.0.1"),
    )
    assert stale_flows(after, after) == ()


def test_flows_of_a_service_that_is_gone_are_stale() -> None:
    before = compute([service("dns", "10.96.0.2", DNS)], [behind("dns", "10.0.0.1", port=DNS)])
    assert stale_flows(before, compute([], [])) == (Flow("10.96.0.2", 53, "10.0.0.1"),)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nft")
@pytest.mark.parametrize("seed", range(5))
def test_changes_one_after_another_give_what_the_whole_would(seed: int) -> None:
    chance = random.Random(seed)
    worlds = [some_world(chance) for _ in range(8)]
    changes = [delta(before, after) for before, after in itertools.pairwise(worlds)]
    assert table_after(render(worlds[0]), *changes) == table_after(render(worlds[-1]))


def some_world(chance: random.Random) -> Ruleset:
    numbers = [n for n in range(1, 12) if chance.random() < 0.7]
    services = [
        dataclasses.replace(
            service(f"svc-{n}", f"10.96.0.{n}", DNS if n % 3 == 0 else HTTP, (f"203.0.113.{n % 4}",)),
            sticky=n % 5 == 0,
        )
        for n in numbers
    ]
    slices = [
        behind(
            f"svc-{n}",
            *(f"10.0.{part}.{n}" for part in range(chance.randrange(4))),
            port=DNS if n % 3 == 0 else HTTP,
        )
        for n in numbers
    ]
    return compute(services, slices)


def table_after(*texts: str) -> tuple[set[str], set[str]]:
    """What the kernel has, regardless of order: chains with their rules, and elements of sets and maps."""
    script = "".join(f"nft -f - <<'END' || exit\n{text}\nEND\n" for text in texts)
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script + "nft list table ip kip-services"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    chains = {
        " ".join(chain.split())
        for chain in re.findall(r"chain [^}]*\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}", done.stdout)
        if len(chain.split()) > 4  # the emptied ones do nothing
    }
    elements = {
        entry.strip()
        for listed in re.findall(r"elements = \{([^}]*)\}", done.stdout)
        for entry in listed.split(",")
    }
    assert chains
    return chains, elements
