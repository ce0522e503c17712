"""What Prometheus reads."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from kip.cloud.errors import CloudError
from kip.observe.definitions import (
    DEFINITIONS,
    GIVEN_UP_REASONS,
    LAUNCH_ERRORS,
    MOST_CODES,
    MOST_NAMESPACES,
    OTHERS,
    PHASES,
    START_STAGES,
    Definition,
)
from kip.observe.metrics import Metrics, Snapshot


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_cells_are_counted_when_asked_for(metrics: Metrics) -> None:
    seen = [Snapshot(phases=("Running", "Running", "Booting"))]
    metrics.count(lambda: seen[0])
    assert value(metrics, "kip_cells", phase="Running") == 2
    seen[0] = Snapshot()
    assert {phase: value(metrics, "kip_cells", phase=phase) for phase in PHASES} == dict.fromkeys(PHASES, 0)


def test_the_stages_of_a_pods_start(metrics: Metrics) -> None:
    for position, stage in enumerate(START_STAGES):
        metrics.pod_reached(stage, position)
    assert value(metrics, "kip_pod_start_seconds_count", stage="running") == 1
    assert value(metrics, "kip_pod_start_seconds_sum", stage="running") == len(START_STAGES) - 1


def test_a_stage_that_there_is_not(metrics: Metrics) -> None:
    with pytest.raises(ValueError, match="walking is no stage of a pod's start; there are cell_created, "):
        metrics.pod_reached("walking", 1)


def test_what_else_is_looked_at(metrics: Metrics) -> None:
    seen = Snapshot(
        oldest_s={"Booting": 7.5},
        instances=(("t3.nano", "us-east-1a", "spot"), ("t3.nano", "us-east-1a", "spot")),
        usd_per_hour={"shop": 0.25},
        unpriced=1,
        aws_tokens={"RunInstances": -1.5},
        queue={"active": 2},
        tunnels={"open": 3},
    )
    metrics.count(lambda: seen)
    assert value(metrics, "kip_instances", instance_type="t3.nano", zone="us-east-1a", market="spot") == 2
    assert value(metrics, "kip_cells_price_usd_per_hour", namespace="shop") == 0.25
    assert value(metrics, "kip_cells_of_unknown_price") == 1
    assert value(metrics, "kip_aws_bucket_tokens", action="RunInstances") == -1.5
    assert value(metrics, "kip_queue_depth", state="active") == 2
    assert value(metrics, "kip_queue_depth", state="waiting") == 0
    assert value(metrics, "kip_tunnels", state="open") == 3
    assert value(metrics, "kip_cells_oldest_seconds", phase="Booting") == 7.5
    assert value(metrics, "kip_cells_oldest_seconds", phase="Failed") == 0


def test_no_namespace_or_code_of_others_makes_series_without_end(metrics: Metrics) -> None:
    names = [f"ci-{number}" for number in range(MOST_NAMESPACES + 2)]
    metrics.count(lambda: Snapshot(usd_per_hour=dict.fromkeys(names, 1.0)))
    assert value(metrics, "kip_cells_price_usd_per_hour", namespace=names[0]) == 1
    assert value(metrics, "kip_cells_price_usd_per_hour", namespace=OTHERS) == 2
    for name in names:
        metrics.spent(name, 0.5)
        metrics.aws_called("RunInstances", "CloudError", f"Code{name}", 0.1)
    assert value(metrics, "kip_cells_cost_usd_total", namespace=OTHERS) == 1
    assert value(metrics, "kip_aws_calls_total", action="RunInstances", result="CloudError", code=OTHERS) == (
        len(names) - MOST_CODES
    )


def test_there_is_what_is_defined_and_nothing_else(metrics: Metrics) -> None:
    metrics.count(Snapshot)
    there = {family.name: family for family in metrics.registry.collect() if family.name.startswith("kip_")}
    assert {d.name.removesuffix("_total"): d.kind for d in DEFINITIONS} == {
        name: family.type for name, family in there.items()
    }
    assert all(there[d.name.removesuffix("_total")].documentation == d.help for d in DEFINITIONS)


def test_what_can_go_wrong_is_counted_from_zero(metrics: Metrics) -> None:
    """And the reasons are those that the cloud's errors have."""
    errors = [CloudError]
    for error in errors:
        errors += error.__subclasses__()
    assert sorted(LAUNCH_ERRORS) == sorted({error.reason for error in errors})
    for reason in LAUNCH_ERRORS:
        assert value(metrics, "kip_cell_launches_total", result="error", reason=reason) == 0
    for reason in GIVEN_UP_REASONS:
        assert value(metrics, "kip_cells_given_up_total", reason=reason) == 0
    assert value(metrics, "kip_pod_start_seconds_count", stage="running") == 0
    assert value(metrics, "kip_reconciles_total", result="error") == 0


def test_a_definition_that_prometheus_would_not_like() -> None:
    with pytest.raises(ValueError, match="counters, and nothing else, end in _total"):
        Definition(name="kip_things", kind="counter", help="Things.")
    with pytest.raises(ValueError, match="histograms, and nothing else, have buckets"):
        Definition(name="kip_seconds", kind="histogram", help="Seconds.")


def test_counters(metrics: Metrics) -> None:
    metrics.launched(result="error", reason="InsufficientCapacity")
    metrics.aws_called("RunInstances", "Throttled", "RequestLimitExceeded", 1.5)
    metrics.given_up("BootFailed")
    metrics.spent("shop", 0.5)
    metrics.reconciled("wait")
    metrics.node_is("kip-0", ready=True)
    metrics.leads("kip-1", holder=False)
    metrics.cellapi.answered("secrets", "pass", 200, 0.01)
    metrics.kubelet.answered("containerLogs", 404, 0.2)
    metrics.kubelet.not_scraped("stats/summary", 3)
    metrics.catalogue.known("spot", datetime(2026, 1, 1, tzinfo=UTC))
    metrics.catalogue.asked("spot", "NotAuthorized")
    assert value(metrics, "kip_cell_launches_total", result="error", reason="InsufficientCapacity") == 1
    called = {"action": "RunInstances", "result": "Throttled", "code": "RequestLimitExceeded"}
    assert value(metrics, "kip_aws_calls_total", **called) == 1
    assert value(metrics, "kip_cells_given_up_total", reason="BootFailed") == 1
    assert value(metrics, "kip_cells_cost_usd_total", namespace="shop") == 0.5
    assert value(metrics, "kip_aws_call_seconds_sum", action="RunInstances") == 1.5
    assert value(metrics, "kip_reconciles_total", result="wait") == 1
    assert value(metrics, "kip_node_ready", node="kip-0") == 1
    assert value(metrics, "kip_leader", node="kip-1") == 0
    assert value(metrics, "kip_cellapi_requests_total", rule="secrets", verdict="pass", code="200") == 1
    assert value(metrics, "kip_kubelet_requests_total", path="containerLogs", code="404") == 1
    assert value(metrics, "kip_kubelet_request_seconds_count", path="containerLogs") == 1
    assert value(metrics, "kip_kubelet_cells_not_scraped_total", path="stats/summary") == 3
    assert value(metrics, "kip_catalogue_as_of_timestamp_seconds", source="spot") == 1767225600
    assert value(metrics, "kip_catalogue_refreshes_total", source="spot", result="NotAuthorized") == 1


def test_who_no_longer_serves_a_node_says_nothing_of_its_readiness(metrics: Metrics) -> None:
    metrics.leads("kip-0", holder=True)
    metrics.node_is("kip-0", ready=True)
    metrics.node_is("kip-1", ready=True)
    metrics.leads("kip-0", holder=False)
    assert value(metrics, "kip_node_ready", node="kip-0") is None
    assert value(metrics, "kip_node_ready", node="kip-1") == 1
    metrics.leads("kip-0", holder=True)
    metrics.node_is("kip-0", ready=False)
    assert value(metrics, "kip_node_ready", node="kip-0") == 0


def test_two_in_one_process_do_not_meet(metrics: Metrics) -> None:
    metrics.reconciled("done")
    assert value(Metrics(), "kip_reconciles_total", result="done") == 0


def test_every_metric_is_ours_or_the_processs_and_has_help(metrics: Metrics) -> None:
    families = list(text_string_to_metric_families(generate_latest(metrics.registry).decode()))
    assert "process_resident_memory_bytes" in {family.name for family in families}
    for family in families:
        assert family.name.startswith(("kip_", "process_", "python_")), family.name
        assert family.documentation
