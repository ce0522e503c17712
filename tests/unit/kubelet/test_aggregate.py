from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from kip.kubelet import aggregate
from kip.kubelet.aggregate import NodeView
from kip.kubelet.routes import NodeRoute


class Counted:
    def __init__(self) -> None:
        self.missing: list[tuple[str, int]] = []

    def answered(self, what: str, status: int, seconds: float) -> None:
        raise AssertionError("aggregation answers nobody itself")

    def not_scraped(self, what: str, cells: int) -> None:
        self.missing.append((what, cells))


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def view(cells: Any, cell_tls: Any, counted: Counted) -> NodeView:
    return NodeView(cells, cell_tls, "kip-0", counted)


async def hang(_head: bytes, reader: Any, _writer: Any) -> None:
    await reader.read()


async def test_resource_metrics_of_all_cells(
    view: NodeView, cells: Any, answering: Any, counted: Counted
) -> None:
    for pod, cpu in (("a", 1), ("b", 2)):
        text = f'# TYPE node_cpu gauge\nnode_cpu {cpu}\n# TYPE pod_x gauge\npod_x{{pod="{pod}"}} 1\n'
        await cells.add("ns", pod, answering(text.encode()))
    answer = await view.serve(NodeRoute("/metrics/resource"), "")
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    assert b"node_cpu 3.0\n" in answer.body
    assert answer.body.count(b"pod_x{") == 2
    assert counted.missing == [("metrics/resource", 0)]


async def test_a_slow_cell_does_not_hold_up_the_others(
    view: NodeView, cells: Any, answering: Any, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregate, "_DEADLINE_S", 0.5)
    await cells.add("ns", "a", answering(b"up 1\n"))
    slow = await cells.add("ns", "b", hang)
    await cells.add("ns", "c", answering(b"internal error", "500 Internal Server Error"))
    cells.put("ns", "d", None)
    answer = await asyncio.wait_for(view.serve(NodeRoute("/metrics/cadvisor"), ""), 5)
    assert (answer.status, answer.body) == (200, b'up{cell="cell-a"} 1\n')
    assert counted.missing == [("metrics/cadvisor", 2)]
    await asyncio.wait_for(slow.ended.wait(), 5)


async def test_an_answer_without_end_is_cut_off(
    view: NodeView, cells: Any, answering: Any, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregate, "_ANSWER_LIMIT_BYTES", 1000)

    async def endless(_head: bytes, _reader: Any, writer: Any) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"up 1\n" * 1000)
            await writer.drain()

    await cells.add("ns", "a", endless)
    await cells.add("ns", "b", answering(b"up 1\n"))
    answer = await asyncio.wait_for(view.serve(NodeRoute("/metrics/probes"), ""), 5)
    assert answer.body == b'up{cell="cell-b"} 1\n'
    assert counted.missing == [("metrics/probes", 1)]


async def test_summary_passes_its_query_on(view: NodeView, cells: Any, answering: Any) -> None:
    kubelet = await cells.add(
        "ns", "a", answering(json.dumps({"node": {"cpu": {"usageNanoCores": 3}}, "pods": []}).encode())
    )
    answer = await view.serve(NodeRoute("/stats/summary"), "only_cpu_and_memory=true")
    assert json.loads(answer.body) == {
        "node": {"nodeName": "kip-0", "cpu": {"usageNanoCores": 3}},
        "pods": [],
    }
    assert kubelet.heads[0].startswith(b"GET /stats/summary?only_cpu_and_memory=true HTTP/1.1\r\n")


async def test_running_pods_without_what_the_cluster_does_not_know(
    view: NodeView, cells: Any, answering: Any
) -> None:
    items = [{"metadata": {"uid": "uid-a", "name": "a"}}, {"metadata": {"uid": "static"}}]
    kubelet = await cells.add("ns", "a", answering(json.dumps({"items": items}).encode()))
    await cells.add("ns", "b", answering(b"not json"))
    answer = await view.serve(NodeRoute("/runningpods"), "")
    assert json.loads(answer.body)["items"] == items[:1]
    assert kubelet.heads[0].startswith(b"GET /runningpods/ HTTP/1.1\r\n")


async def test_a_node_without_cells(view: NodeView) -> None:
    for path in ("/metrics/resource", "/metrics/cadvisor", "/metrics/probes"):
        assert (await view.serve(NodeRoute(path), "")).body == b""
    assert json.loads((await view.serve(NodeRoute("/pods"), "")).body)["items"] == []
    assert (await view.serve(NodeRoute("/healthz"), "")).body == b"ok"
