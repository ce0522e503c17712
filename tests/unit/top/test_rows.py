"""What `kip top` says of each cell, and of all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kip.model.clock import to_rfc3339
from kip.top.rows import rows, totals

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def condition(kind: str, status: str, ago_s: float, reason: str = "R", message: str = "m") -> dict[str, Any]:
    since = to_rfc3339(NOW - timedelta(seconds=ago_s))
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}


def cell(name: str = "web", namespace: str = "shop", *, ago_s: float = 7200, **status: Any) -> dict[str, Any]:
    """A running cell of which `status` may say otherwise."""
    running = {
        "instanceID": f"i-{name}",
        "instanceType": "t3.nano",
        "launchType": "Spot",
        "zone": "us-east-1a",
        "pricePerHour": "0.5",
        "conditions": [condition(kind, "True", ago_s / 2) for kind in ("Launched", "Connected", "Serving")],
    }
    return {
        "metadata": {
            "name": f"kip-{name}",
            "uid": f"uid-{name}",
            "resourceVersion": "1",
            "creationTimestamp": to_rfc3339(NOW - timedelta(seconds=ago_s)),
        },
        "spec": {"nodeName": "kip-0", "podName": name, "podNamespace": namespace, "podUID": name},
        "status": running | status,
    }


def test_what_a_running_cell_costs_counts_from_its_launch() -> None:
    [row] = rows([cell()], NOW)
    assert (row.cell, row.namespace, row.pod, row.node) == ("kip-web", "shop", "web", "kip-0")
    assert (row.phase, row.age_s, row.market, row.zone) == ("Running", 7200, "spot", "us-east-1a")
    assert (row.usd_per_hour, row.usd_so_far) == (0.5, 0.5)
    assert row.trouble == ""


def test_a_cell_without_a_machine_costs_nothing_and_says_why_it_has_none() -> None:
    refused = condition("Launched", "False", 5, "QuotaExceeded", "no more vCPUs")
    ready = condition("Ready", "False", 1, "QuotaExceeded", "no more vCPUs")
    [row] = rows([cell(instanceID=None, pricePerHour=None, conditions=[refused, ready])], NOW)
    assert row.phase == "Failed"
    assert (row.usd_per_hour, row.usd_so_far) == (None, None)
    assert row.trouble == "QuotaExceeded: no more vCPUs"
    assert totals([row]).unpriced == 0


def test_the_newest_trouble_is_told() -> None:
    conditions = [
        condition("Launched", "True", 900),
        condition("Connected", "False", 30, "ConnectionLost", "no answer"),
        condition("Terminated", "Unknown", 10, "NotAuthorized", "may not"),
    ]
    assert rows([cell(conditions=conditions)], NOW)[0].trouble == "NotAuthorized: may not"


def test_what_cannot_be_read_is_left_out() -> None:
    assert rows([{"metadata": {"name": "broken"}, "spec": {}}, cell()], NOW)[0].pod == "web"


@pytest.mark.parametrize(
    ("order", "pods"),
    [
        ("cost", ["dear", "old", "cheap"]),
        ("price", ["dear", "cheap", "old"]),
        ("age", ["old", "cheap", "dear"]),
        ("namespace", ["dear", "cheap", "old"]),
        ("phase", ["old", "dear", "cheap"]),
    ],
)
def test_orders(order: Any, pods: list[str]) -> None:
    cells = [
        cell("cheap", "b", ago_s=7200, pricePerHour="0.02"),
        cell("dear", "a", ago_s=3600, pricePerHour="9"),
        cell(
            "old", "c", ago_s=720000, pricePerHour="0.01", conditions=[condition("Launched", "True", 700000)]
        ),
    ]
    assert [row.pod for row in rows(cells, NOW, order=order)] == pods


def test_of_one_namespace_and_all_together() -> None:
    cells = [
        cell("a", "shop"),
        cell("b", "shop", pricePerHour=None),
        cell("c", "other", instanceID=None, pricePerHour=None, conditions=[]),
    ]
    assert [row.pod for row in rows(cells, NOW, namespace="shop")] == ["a", "b"]
    all_ = totals(rows(cells, NOW))
    assert (all_.cells, all_.usd_per_hour, all_.usd_so_far, all_.unpriced) == (3, 0.5, 0.5, 1)
    assert all_.phases == {"Running": 2, "Pending": 1}
