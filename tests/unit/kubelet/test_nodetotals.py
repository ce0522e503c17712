from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from kip.kubelet.nodetotals import NodeTotals


def resource(cpu: float, memory: int, time: int, pod: str = "p", error: int = 0) -> bytes:
    return f"""\
# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{{container="c",namespace="ns",pod="{pod}"}} 1.5 {time}
# HELP node_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the node in core-seconds
# TYPE node_cpu_usage_seconds_total counter
node_cpu_usage_seconds_total {cpu} {time}
# HELP node_memory_working_set_bytes [STABLE] Current working set of the node in bytes
# TYPE node_memory_working_set_bytes gauge
node_memory_working_set_bytes {memory} {time}
# HELP resource_scrape_error [STABLE] 1 if there was an error while getting container metrics, 0 otherwise
# TYPE resource_scrape_error gauge
resource_scrape_error {error}
""".encode()


def value(text: bytes, name: str) -> float:
    match = re.search(rf"^{name} (\S+)", text.decode(), re.MULTILINE)
    assert match is not None, text.decode()
    return float(match[1])


def test_nodes_are_added_up_and_pods_stand_beside_each_other() -> None:
    text = NodeTotals().merge(
        {"a": resource(10, 100, 1000, "p1"), "b": resource(5.5, 50, 3000, "p2", error=1)}, {"a", "b"}
    )
    assert b"\nnode_cpu_usage_seconds_total 15.5 3000\n" in text
    assert value(text, "node_memory_working_set_bytes") == 150
    assert value(text, "resource_scrape_error") == 1
    assert text.count(b"# TYPE node_cpu_usage_seconds_total counter") == 1
    assert text.count(b"# TYPE container_cpu_usage_seconds_total counter") == 1
    assert b'pod="p1"} 1.5 1000' in text
    assert b'pod="p2"} 1.5 3000' in text


def test_what_a_gone_cell_counted_stays_and_what_it_held_goes() -> None:
    totals = NodeTotals()
    totals.merge({"a": resource(10, 100, 1), "b": resource(5, 50, 1)}, {"a", "b"})
    text = totals.merge({"b": resource(6, 60, 2)}, {"b"})
    assert value(text, "node_cpu_usage_seconds_total") == 16
    assert value(text, "node_memory_working_set_bytes") == 60


def test_a_cell_that_did_not_answer_counts_with_what_it_last_said() -> None:
    totals = NodeTotals()
    totals.merge({"a": resource(10, 100, 1, error=1), "b": resource(5, 50, 1)}, {"a", "b"})
    text = totals.merge({"b": resource(6, 60, 2)}, {"a", "b"})
    assert value(text, "node_cpu_usage_seconds_total") == 16
    assert value(text, "node_memory_working_set_bytes") == 160
    assert value(text, "resource_scrape_error") == 0


def test_a_kubelet_that_counts_anew_takes_nothing_away() -> None:
    totals = NodeTotals()
    totals.merge({"a": resource(10, 100, 1)}, {"a"})
    assert value(totals.merge({"a": resource(1, 100, 2)}, {"a"}), "node_cpu_usage_seconds_total") == 11


def test_without_cells_there_is_only_what_was_counted() -> None:
    totals = NodeTotals()
    assert totals.merge({}, set()) == b""
    totals.merge({"a": resource(10, 100, 1)}, {"a"})
    text = totals.merge({}, set())
    assert value(text, "node_cpu_usage_seconds_total") == 10
    assert b"node_memory" not in text


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 100), max_size=3), max_size=12))
def test_the_nodes_counter_never_falls(turns: list[dict[str, int]]) -> None:
    totals, before = NodeTotals(), 0.0
    for turn in turns:
        text = totals.merge({cell: resource(cpu, 1, 1) for cell, cpu in turn.items()}, set(turn))
        now = value(text, "node_cpu_usage_seconds_total") if b"node_cpu" in text else before
        assert now >= before
        before = now
