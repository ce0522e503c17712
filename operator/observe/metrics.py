"""Metrics for Prometheus. Every label has a bounded set of values: none is a pod's or a cell's name."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from importlib.metadata import version
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kip.model.cell import Phase

PHASES: tuple[Phase, ...] = get_args(Phase)

#: The way of a pod to its start, in order; each is measured from the pod's creation.
START_STAGES = ("cell_created", "launch_requested", "launched", "reachable", "connected", "shown", "running")

# Fine where the goals are: 150 and 500 ms to the launch, some seconds from there; coarse up to
# the timeouts.
_START_BUCKETS = (0.05, 0.1, 0.15, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600)
_CALL_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """All metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        for collect in (ProcessCollector, PlatformCollector, GCCollector):
            collect(registry=registry)
        Info("kip_build", "The running version.", registry=registry).info(
            {"version": version("kip-operator")}
        )
        self._launches = Counter(
            "kip_cell_launches",
            "Cells for which an instance was asked.",
            ("result", "reason"),
            registry=registry,
        )
        self._start = Histogram(
            "kip_pod_start_seconds",
            "Time from a pod's creation to each stage of its start. The creation is known to the second only.",
            ("stage",),
            buckets=_START_BUCKETS,
            registry=registry,
        )
        self._aws_calls = Counter("kip_aws_calls", "Calls of AWS.", ("action", "result"), registry=registry)
        self._aws_seconds = Histogram(
            "kip_aws_call_seconds",
            "Time that calls of AWS took.",
            ("action",),
            buckets=_CALL_BUCKETS,
            registry=registry,
        )
        self._reconciles = Counter(
            "kip_reconciles", "Passes over one cell's stages.", ("result",), registry=registry
        )
        self._node_ready = Gauge(
            "kip_node_ready",
            "Whether the virtual node is Ready: 1 or 0; told by the process that serves it.",
            ("node",),
            registry=registry,
        )
        self._leader = Gauge(
            "kip_leader",
            "Whether this process serves the virtual node: 1 or 0.",
            ("node",),
            registry=registry,
        )
        self.cellapi = CellApiMetrics(registry)
        self.kubelet = KubeletMetrics(registry)
        self.catalogue = CatalogueMetrics(registry)

    def count_cells(self, phases: Callable[[], Iterable[Phase]]) -> None:
        """Where to read the phases of all cells, at each scrape and in the event loop's thread."""
        self.registry.register(_Cells(phases))

    def launched(self, *, result: str, reason: str = "") -> None:
        """One cell's launch ended: `ok` or `error` with the error's reason."""
        self._launches.labels(result, reason).inc()

    def pod_reached(self, stage: str, seconds: float) -> None:
        """A pod reached one of `START_STAGES`, so long after its creation."""
        if stage not in START_STAGES:
            raise ValueError(f"{stage} is no stage of a pod's start; there are {', '.join(START_STAGES)}")
        self._start.labels(stage).observe(seconds)

    def aws_called(self, action: str, *, result: str, seconds: float) -> None:
        """A call such as `RunInstances` ended: `ok` or the error's kind."""
        self._aws_calls.labels(action, result).inc()
        self._aws_seconds.labels(action).observe(seconds)

    def reconciled(self, result: str) -> None:
        """One pass ended: `done`, `wait`, `stop` or `error`."""
        self._reconciles.labels(result).inc()

    def node_is(self, node: str, *, ready: bool) -> None:
        """The virtual node's condition, as this process last wrote it."""
        self._node_ready.labels(node).set(ready)

    def leads(self, node: str, *, holder: bool) -> None:
        """Whether this process holds the virtual node's Lease. Only its holder says whether the node is ready."""
        self._leader.labels(node).set(holder)
        if not holder:
            # Its next holder writes the condition now: what is known here would contradict it sooner or later.
            self._node_ready.remove(node)


class CellApiMetrics:
    """What cells ask of the API server."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "kip_cellapi_requests",
            "Requests of cells, when they have been answered.",
            ("rule", "verdict", "code"),
            registry=registry,
        )

    def answered(self, rule: str, verdict: str, code: int, seconds: float) -> None:
        """One request; `seconds` is not kept, as that of a watch is its whole life."""
        self._requests.labels(rule, verdict, str(code)).inc()


class KubeletMetrics:
    """What others ask of the virtual node's kubelet API."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "kip_kubelet_requests", "Requests to the kubelet API.", ("path", "code"), registry=registry
        )
        self._seconds = Histogram(
            "kip_kubelet_request_seconds",
            "Time to answer them; a stream's is its whole life.",
            ("path",),
            buckets=(*_CALL_BUCKETS, 60, 600, 3600),
            registry=registry,
        )
        self._silent = Counter(
            "kip_kubelet_cells_not_scraped",
            "Cells that were missing in an answer about the whole node.",
            ("path",),
            registry=registry,
        )

    def answered(self, what: str, status: int, seconds: float) -> None:
        """One request; `what` is of a closed set."""
        self._requests.labels(what, str(status)).inc()
        self._seconds.labels(what).observe(seconds)

    def not_scraped(self, what: str, cells: int) -> None:
        """So many cells did not answer in time."""
        self._silent.labels(what).inc(cells)


class CatalogueMetrics:
    """How old is what instances are chosen by; sources are `types`, `offerings`, `prices`, `spot`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._as_of = Gauge(
            "kip_catalogue_as_of_timestamp_seconds",
            "Unix time of which this is known; a source that AWS has not told is missing, but for the prices that come with "
            "Kip.",
            ("source",),
            registry=registry,
        )
        self._refreshes = Counter(
            "kip_catalogue_refreshes",
            "Attempts to learn it from AWS; each may take many calls.",
            ("source", "result"),
            registry=registry,
        )

    def known(self, source: str, as_of: datetime) -> None:
        """From now on what was so at that moment counts."""
        self._as_of.labels(source).set(as_of.timestamp())

    def asked(self, source: str, result: str) -> None:
        """AWS was asked: `ok` or the error's kind."""
        self._refreshes.labels(source, result).inc()


class _Cells(Collector):
    """Counted when asked for, so that the numbers cannot drift from the truth."""

    def __init__(self, phases: Callable[[], Iterable[Phase]]) -> None:
        self._phases = phases

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("kip_cells", "Cells, by phase.", labels=("phase",))
        tally = Tally(self._phases())
        for phase in PHASES:
            family.add_metric((phase,), tally[phase])
        yield family
