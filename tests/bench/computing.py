"""What the operator computes: the choice of a machine, and the Services' rules."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from typing import Any

from kip.cloud import catalogue
from kip.pods.requirements import requirements
from kip.selection.choose import Choice, Chooser, Constraints
from kip.services.changes import delta
from kip.services.model import service_from, slice_from
from kip.services.ruleset import compute, render

_REGION = "us-east-1"
_ENDPOINTS = 3


@dataclass(frozen=True)
class Selection:
    """The choice for one pod: milliseconds of each of many, over so many types."""

    types: int
    each_ms: list[float]


@dataclass(frozen=True)
class Rules:
    """The rules of so many Services: milliseconds, bytes."""

    services: int
    compute_ms: float
    render_ms: float
    size_bytes: int
    load_ms: float | None
    """`nft` loading the whole into an empty network namespace; None where that is not possible."""
    change_ms: float
    """From objects of which one changed to what is sent to a cell that has the version before."""
    change_bytes: int


def selection(pods: int) -> Selection:
    """Pods of many sizes, each chosen for over the whole catalogue of one region."""
    types = catalogue.load(_REGION)
    chooser = Chooser(types)
    constraints = Constraints(zones=("us-east-1a", "us-east-1b"), default_instance_type="t3.small")
    each = []
    for number in range(pods):
        needs = requirements(_sized(250 * (1 + number % 64), 256 * (1 + number % 200)))
        begun = time.perf_counter()
        choice = chooser.choose(needs, constraints)
        each.append((time.perf_counter() - begun) * 1000)
        if not isinstance(choice, Choice):
            raise RuntimeError(f"nothing fits {needs}: {choice.message}")
    return Selection(len(types), each)


def rules(services: int) -> Rules:
    """Services with three endpoints each, then one of them with another endpoint."""
    objects = [_service(number) for number in range(services)]
    slices = [_slice(number) for number in range(services)]
    begun = time.perf_counter()
    computed = compute(map(service_from, objects), map(slice_from, slices))
    computed_at = time.perf_counter()
    text = render(computed)
    rendered_at = time.perf_counter()
    slices[services // 2] = _slice(services // 2, last=99)
    changed_at = time.perf_counter()
    change = delta(computed, compute(map(service_from, objects), map(slice_from, slices)))
    change_ms = (time.perf_counter() - changed_at) * 1000
    return Rules(
        services=services,
        compute_ms=(computed_at - begun) * 1000,
        render_ms=(rendered_at - computed_at) * 1000,
        size_bytes=len(text.encode()),
        load_ms=_load_ms(text),
        change_ms=change_ms,
        change_bytes=len(change.encode()),
    )


def _load_ms(text: str) -> float | None:
    begun = time.perf_counter()
    try:
        done = subprocess.run(
            ["unshare", "--net", "nft", "--file", "-"],
            input=text,
            text=True,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    return (time.perf_counter() - begun) * 1000 if done.returncode == 0 else None


def _sized(cpu_millis: int, memory_mib: int) -> dict[str, Any]:
    requests = {"cpu": f"{cpu_millis}m", "memory": f"{memory_mib}Mi"}
    return {
        "metadata": {"name": "bench", "namespace": "bench", "uid": "bench"},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": requests}}]},
    }


def _service(number: int) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "bench", "name": f"service-{number}"},
        "spec": {
            "clusterIPs": [f"10.96.{number // 250}.{1 + number % 250}"],
            "ports": [{"name": "http", "protocol": "TCP", "port": 80}],
        },
    }


def _slice(number: int, last: int = _ENDPOINTS) -> dict[str, Any]:
    ends = [*range(1, _ENDPOINTS), last]
    return {
        "metadata": {
            "namespace": "bench",
            "name": f"service-{number}-x",
            "labels": {"kubernetes.io/service-name": f"service-{number}"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        "endpoints": [
            {"addresses": [f"10.{number // 250}.{number % 250}.{end}"], "conditions": {"ready": True}}
            for end in ends
        ],
    }
