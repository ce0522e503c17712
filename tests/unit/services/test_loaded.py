"""Rulesets in the kernel: packets of a pod and of its cell, in throw-away network namespaces."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kip.services.model import Endpoint, EndpointSlice, Service, ServicePort
from kip.services.ruleset import ruleset

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("nft") or not shutil.which("unshare"),
    reason="needs root and nft",
)

HTTP = ServicePort("http", "TCP", 80)
BACKENDS = ("10.0.1.1", "10.0.1.2", "10.0.1.3")
SERVERS = [["net", address, 8080, "tcp"] for address in BACKENDS]


def run_lab(
    rulesets: Sequence[str],
    probes: Sequence[tuple[str, list[list[Any]]]],
    servers: Sequence[list[Any]] = SERVERS,
) -> dict[str, Any]:
    done = subprocess.run(
        [
            "unshare",
            "--net",
            "--mount",
            "--propagation",
            "private",
            sys.executable,
            Path(__file__).with_name("lab.py"),
        ],
        input=json.dumps({"rulesets": rulesets, "probes": probes, "servers": servers}),
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def service(name: str = "web", address: str = "10.96.0.10", **changes: Any) -> Service:
    values: dict[str, Any] = {"cluster_ips": (address,), "external_ips": (), "ports": (HTTP,)} | changes
    return Service("default", name, **values)


def behind(*addresses: str, name: str = "web", port: int = 8080, **changes: Any) -> EndpointSlice:
    values: dict[str, Any] = {"ready": True, "serving_while_terminating": False} | changes
    ports = (ServicePort("http", "TCP", port),)
    return EndpointSlice("default", name, (Endpoint(addresses=addresses, **values),), ports)


def hosts(answers: list[str]) -> set[str]:
    return {answer.split(":")[0] for answer in answers}


def test_pod_and_cell_reach_every_endpoint() -> None:
    text = ruleset([service()], [behind(*BACKENDS)])
    ask = [["10.96.0.10", 80, "tcp"]] * 40
    from_pod, from_cell = run_lab([text], [("pod", ask), ("cell", ask)])["answers"]
    assert hosts(from_pod) == set(BACKENDS)
    assert hosts(from_cell) == set(BACKENDS)
    assert {answer.split()[1] for answer in from_pod} == {"10.0.0.9"}  # the pod is known by its own address


def test_affinity_keeps_a_client_at_one_endpoint_across_replacements() -> None:
    text = ruleset([service(sticky=True)], [behind(*BACKENDS)])
    ask = [["10.96.0.10", 80, "tcp"]] * 10
    (answers,) = run_lab([text], [("pod", ask)])["answers"]
    (again,) = run_lab([text, text], [("pod", ask)])["answers"]
    assert len(hosts(answers)) == 1
    assert hosts(again) == hosts(answers)


def test_nothing_behind_a_service_is_refused_at_once() -> None:
    text = ruleset([service(external_ips=("203.0.113.9",))], [])
    ask = [["10.96.0.10", 80, "tcp"], ["10.96.0.10", 81, "tcp"], ["203.0.113.9", 80, "tcp"]]
    for answers in run_lab([text], [("pod", ask), ("cell", ask)])["answers"]:
        assert answers == ["ConnectionRefusedError after 0 s"] * 3


def test_a_port_that_the_service_has_not_is_refused() -> None:
    text = ruleset([service()], [behind(*BACKENDS)])
    (answers,) = run_lab([text], [("pod", [["10.96.0.10", 443, "tcp"], ["10.96.0.10", 80, "udp"]])])[
        "answers"
    ]
    assert answers == ["ConnectionRefusedError after 0 s"] * 2


def test_external_addresses_lead_to_endpoints_and_their_other_ports_outside() -> None:
    text = ruleset([service(external_ips=("203.0.113.7",))], [behind("10.0.1.1")])
    servers = [*SERVERS, ["net", "203.0.113.7", 22, "tcp"]]
    ask = [["203.0.113.7", 80, "tcp"], ["203.0.113.7", 22, "tcp"]]
    (answers,) = run_lab([text], [("pod", ask)], servers)["answers"]
    assert [answer.split()[0] for answer in answers] == ["10.0.1.1:8080", "203.0.113.7:22"]


def test_udp_is_served() -> None:
    dns = ServicePort("dns", "UDP", 53)
    text = ruleset(
        [service(ports=(dns,))],
        [
            EndpointSlice(
                "default", "web", (Endpoint(("10.0.1.2",), True, False),), (ServicePort("dns", "UDP", 1053),)
            )
        ],
    )
    (answers,) = run_lab([text], [("pod", [["10.96.0.10", 53, "udp"]])], [["net", "10.0.1.2", 1053, "udp"]])[
        "answers"
    ]
    assert answers == ["10.0.1.2:1053 10.0.0.9"]


def test_a_pod_reaches_itself_through_its_service() -> None:
    text = ruleset([service()], [behind("10.0.0.9")])
    (answers,) = run_lab([text], [("pod", [["10.96.0.10", 80, "tcp"]])], [["pod", "10.0.0.9", 8080, "tcp"]])[
        "answers"
    ]
    assert answers == ["10.0.0.9:8080 10.0.0.1"]


def test_endpoints_of_one_service_may_have_different_ports() -> None:
    text = ruleset([service()], [behind("10.0.1.1"), behind("10.0.1.2", port=9090)])
    servers = [["net", "10.0.1.1", 8080, "tcp"], ["net", "10.0.1.2", 9090, "tcp"]]
    (answers,) = run_lab([text], [("pod", [["10.96.0.10", 80, "tcp"]] * 30)], servers)["answers"]
    assert {answer.split()[0] for answer in answers} == {"10.0.1.1:8080", "10.0.1.2:9090"}


def test_a_replacement_leaves_nothing_of_what_was_before() -> None:
    first = ruleset([service()], [behind("10.0.1.1")])
    second = ruleset([service("other", "10.96.0.11")], [behind("10.0.1.2", name="other")])
    result = run_lab([first, second], [("pod", [["10.96.0.11", 80, "tcp"]])])
    assert hosts(result["answers"][0]) == {"10.0.1.2"}
    assert "10.96.0.10" not in result["table"]


def test_no_services_at_all_is_a_valid_ruleset() -> None:
    assert "kip-services" in run_lab([ruleset([], [])], [], [])["table"]


def test_two_thousand_services_take_about_a_second() -> None:
    services = [service(f"svc-{n}", f"10.96.{n // 250}.{n % 250 + 1}") for n in range(2000)]
    slices = [behind(*BACKENDS, name=f"svc-{n}") for n in range(2000)]
    text = ruleset(services, slices)
    result = run_lab([text, text], [("pod", [["10.96.7.200", 80, "tcp"]])])
    assert hosts(result["answers"][0]) <= set(BACKENDS)
    # 0.5 s on an idle machine; the bound only tells a change of complexity.
    assert max(result["seconds"]) < 10
