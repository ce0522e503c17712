"""Requests about the node as a whole: every cell is asked at once, the answers become one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import structlog

from kip.kubelet import exposition, summary
from kip.kubelet.cell import CellReply, CellUnreachable, fetch
from kip.kubelet.directory import CellDirectory, Endpoint
from kip.kubelet.http1 import Answer
from kip.kubelet.nodetotals import NodeTotals
from kip.kubelet.ports import CellTls, Metrics
from kip.kubelet.routes import NodeRoute

log = structlog.get_logger(__name__)

# metrics-server gives a node 10 s for everything (its --metric-resolution allows less work than that anyway).
_DEADLINE_S = 8.0
# A TLS handshake and an SSH channel each: more at once only makes all of them late.
_AT_ONCE = 64
# cAdvisor of a machine with one pod is 50 to 150 KB.
_ANSWER_LIMIT_BYTES = 4 << 20


class NodeView:
    """Answers about the virtual node."""

    def __init__(self, directory: CellDirectory, tls: CellTls, node_name: str, metrics: Metrics) -> None:
        self._directory = directory
        self._tls = tls
        self._node_name = node_name
        self._metrics = metrics
        self._totals = NodeTotals()

    async def serve(self, request: NodeRoute, query: str) -> Answer:
        """The answer for one of `routes`' node paths; cells that do not answer in time are missing in it."""
        match request.path:
            case "/metrics/resource":
                return _text(await self._resource())
            case "/metrics/cadvisor" | "/metrics/probes":
                return _text(await self._labelled(request.path))
            case "/stats/summary":
                return _json(await self._summary(f"/stats/summary?{query}" if query else "/stats/summary"))
            case "/pods" | "/runningpods":
                return _json(await self._pods("/pods" if request.path == "/pods" else "/runningpods/"))
            case _:  # /healthz and what is below it
                return Answer(200, b"ok")

    async def _resource(self) -> bytes:
        existing = {endpoint.cell for endpoint in self._directory.all()}
        answers = {endpoint.cell: text async for endpoint, text in self._ask("/metrics/resource")}
        return self._totals.merge(answers, existing)

    async def _labelled(self, path: str) -> bytes:
        merged = exposition.Merged()
        async for endpoint, text in self._ask(path):
            merged.add(endpoint.cell, text)
        return merged.encode()

    async def _summary(self, target: str) -> dict[str, Any]:
        pairs = [(endpoint.pod_uid, decoded) async for endpoint, decoded in self._ask_json(target)]
        return summary.merge(self._node_name, pairs)

    async def _pods(self, path: str) -> dict[str, Any]:
        pods = [
            pod
            async for endpoint, decoded in self._ask_json(path)
            for pod in decoded.get("items") or ()
            if (pod.get("metadata") or {}).get("uid") == endpoint.pod_uid
        ]
        return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods}

    async def _ask_json(self, target: str) -> AsyncIterator[tuple[Endpoint, Mapping[str, Any]]]:
        async for endpoint, body in self._ask(target):
            try:
                decoded = msgspec.json.decode(body)
            except msgspec.DecodeError as error:
                log.warning(
                    "a cell's answer is not JSON", cell=endpoint.cell, target=target, error=str(error)
                )
                continue
            if isinstance(decoded, dict):
                yield endpoint, decoded

    async def _ask(self, target: str) -> AsyncIterator[tuple[Endpoint, bytes]]:
        """The answers in the order in which they come."""
        connected = [endpoint for endpoint in self._directory.all() if endpoint.kubelet_socket is not None]
        gate = asyncio.Semaphore(_AT_ONCE)
        tasks = [asyncio.create_task(self._ask_one(endpoint, target, gate)) for endpoint in connected]
        missing = len(tasks)
        try:
            for next_one in asyncio.as_completed(tasks, timeout=_DEADLINE_S):
                endpoint, reply = await next_one
                if reply is not None and reply.status == 200:
                    missing -= 1
                    yield endpoint, reply.body
        except TimeoutError:
            log.warning("cells did not answer in time", target=target, cells=missing, of=len(tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._metrics.not_scraped(target.partition("?")[0].strip("/"), missing)

    async def _ask_one(
        self, endpoint: Endpoint, target: str, gate: asyncio.Semaphore
    ) -> tuple[Endpoint, CellReply | None]:
        async with gate:
            try:
                return endpoint, await fetch(endpoint, self._tls, target, limit=_ANSWER_LIMIT_BYTES)
            except CellUnreachable as error:
                log.debug("a cell did not answer", cell=endpoint.cell, target=target, error=str(error))
                return endpoint, None


def _text(body: bytes) -> Answer:
    return Answer(200, body, exposition.CONTENT_TYPE)


def _json(document: Any) -> Answer:
    return Answer(200, msgspec.json.encode(document), "application/json")
