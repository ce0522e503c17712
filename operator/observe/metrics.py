"""Metrics for Prometheus; what there is, and what it means, is in `kip.observe.definitions`."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kip.model.cell import Phase
from kip.observe import definitions as of
from kip.observe.definitions import OTHERS, PHASES, START_STAGES, Definition


@dataclass(frozen=True)
class Snapshot:
    """What is counted when somebody asks, so that the numbers cannot drift from the truth."""

    phases: tuple[Phase, ...] = ()
    """Of every cell."""
    oldest_s: Mapping[Phase, float] = field(default_factory=dict)
    """Seconds since the last change of the cell that is longest in this phase."""
    instances: tuple[tuple[str, str, str], ...] = ()
    """(instance type, zone, market) of every cell that has one."""
    usd_per_hour: Mapping[str, float] = field(default_factory=dict)
    """By namespace."""
    unpriced: int = 0
    aws_tokens: Mapping[str, float] = field(default_factory=dict)
    """By AWS action."""
    queue: Mapping[str, int] = field(default_factory=dict)
    """By one of `definitions.QUEUE_STATES`."""
    tunnels: Mapping[str, int] = field(default_factory=dict)
    """By one of `definitions.TUNNEL_STATES`."""


class Metrics:
    """All metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = new_registry()
        self._launches = counter(of.LAUNCHES, registry)
        self._given_up = counter(of.GIVEN_UP, registry)
        self._start = histogram(of.START, registry)
        self._cost = counter(of.COST, registry)
        self._aws_calls = counter(of.AWS_CALLS, registry)
        self._aws_seconds = histogram(of.AWS_SECONDS, registry)
        self._reconciles = counter(of.RECONCILES, registry)
        self._node_ready = gauge(of.NODE_READY, registry)
        self._leader = gauge(of.LEADER, registry)
        self._seeded = counter(of.SEEDED, registry)
        self._saved = counter(of.SAVED, registry)
        self._seeding = histogram(of.SEEDING, registry)
        self._namespaces = _Bounded(of.MOST_NAMESPACES)
        self._codes = _Bounded(of.MOST_CODES)
        self.cellapi = CellApiMetrics(registry)
        self.kubelet = KubeletMetrics(registry)
        self.catalogue = CatalogueMetrics(registry)
        self.metering = MeteringMetrics(registry)
        self._begin()

    def _begin(self) -> None:
        """What can happen is there from the start: of a counter that appears with a 1, `increase` sees nothing."""
        for stage in START_STAGES:
            self._start.labels(stage)
        self._launches.labels("ok", "")
        for reason in of.LAUNCH_ERRORS:
            self._launches.labels("error", reason)
        for reason in of.GIVEN_UP_REASONS:
            self._given_up.labels(reason)
        for outcome in of.SEED_OUTCOMES:
            self._seeded.labels(outcome)
        for result in of.RESULTS:
            self._reconciles.labels(result)

    def count(self, look: Callable[[], Snapshot]) -> None:
        """Where to look at each scrape, in the event loop's thread."""
        self.registry.register(_Counted(look, self._namespaces))

    def launched(self, *, result: str, reason: str = "") -> None:
        """One cell's launch ended: `ok` or `error` with the error's reason."""
        self._launches.labels(result, reason).inc()

    def given_up(self, reason: str) -> None:
        """A machine was ended before its pod ran on it."""
        self._given_up.labels(reason).inc()

    def pod_reached(self, stage: str, seconds: float) -> None:
        """A pod reached one of `START_STAGES`, so long after its creation."""
        if stage not in START_STAGES:
            raise ValueError(f"{stage} is no stage of a pod's start; there are {', '.join(START_STAGES)}")
        self._start.labels(stage).observe(seconds)

    def seeded(self, outcome: str, saved_bytes: int) -> None:
        """An image of a pod was, or was not, taken from the image cache; so much was not downloaded."""
        self._seeded.labels(outcome).inc()
        self._saved.inc(saved_bytes)

    def took(self, seconds: float) -> None:
        """For so long a pod was held back for the image cache."""
        self._seeding.observe(seconds)

    def spent(self, namespace: str, usd: float) -> None:
        """The cells of a namespace have cost so much more."""
        self._cost.labels(self._namespaces.of(namespace)).inc(usd)

    def aws_called(self, action: str, result: str, code: str, seconds: float) -> None:
        """A call such as `RunInstances` ended: `ok` or the error's kind, with AWS's own code for it."""
        self._aws_calls.labels(action, result, self._codes.of(code)).inc()
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
        self._requests = counter(of.CELLAPI_REQUESTS, registry)

    def answered(self, rule: str, verdict: str, code: int, seconds: float) -> None:
        """One request; `seconds` is not kept, as that of a watch is its whole life."""
        self._requests.labels(rule, verdict, str(code)).inc()


class KubeletMetrics:
    """What others ask of the virtual node's kubelet API."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = counter(of.KUBELET_REQUESTS, registry)
        self._seconds = histogram(of.KUBELET_SECONDS, registry)
        self._silent = counter(of.NOT_SCRAPED, registry)

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
        self._as_of = gauge(of.CATALOGUE_AS_OF, registry)
        self._refreshes = counter(of.CATALOGUE_REFRESHES, registry)

    def known(self, source: str, as_of: datetime) -> None:
        """From now on what was so at that moment counts."""
        self._as_of.labels(source).set(as_of.timestamp())

    def asked(self, source: str, result: str) -> None:
        """AWS was asked: `ok` or the error's kind."""
        self._refreshes.labels(source, result).inc()


class MeteringMetrics:
    """What AWS Marketplace has been told of the use of one product."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._records = counter(of.METERING_RECORDS, registry)
        self._until = gauge(of.METERING_UNTIL, registry)
        self._untold = gauge(of.METERING_UNTOLD, registry)
        self._product = ""

    def begin(self, product: str) -> None:
        """There is something to tell."""
        self._product = product
        self._records.labels(product, "ok")

    def told(self, result: str) -> None:
        """A call ended: `ok` or the error's kind."""
        self._records.labels(self._product, result).inc()

    def stands(self, until: datetime, *, untold_hours: float) -> None:
        """Until when AWS knows, and how many cell-hours it does not know yet."""
        self._until.labels(self._product).set(until.timestamp())
        self._untold.labels(self._product).set(untold_hours)


class _Bounded:
    """Label values as they come, up to a number of different ones."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def of(self, value: str) -> str:
        if value not in self._known:
            if len(self._known) >= self._most:
                return OTHERS
            self._known.add(value)
        return value


class _Counted(Collector):
    """A snapshot, taken at each scrape."""

    def __init__(self, look: Callable[[], Snapshot], namespaces: _Bounded) -> None:
        self._look = look
        self._namespaces = namespaces

    def describe(self) -> Iterable[Metric]:
        """What to expect, without looking: there may be nothing to look at yet."""
        return _families(Snapshot(), self._namespaces)

    def collect(self) -> Iterator[Metric]:
        return _families(self._look(), self._namespaces)


def _families(seen: Snapshot, namespaces: _Bounded) -> Iterator[Metric]:
    phases = Tally(seen.phases)
    prices: Tally[str] = Tally()
    for namespace, usd in seen.usd_per_hour.items():
        prices[namespaces.of(namespace)] += usd  # type: ignore[assignment] # a tally of dollars
    yield _family(of.CELLS, {(phase,): phases[phase] for phase in PHASES})
    yield _family(of.OLDEST, {(phase,): seen.oldest_s.get(phase, 0.0) for phase in PHASES})
    yield _family(of.INSTANCES, Tally(seen.instances))
    yield _family(of.PRICE, {(namespace,): usd for namespace, usd in prices.items()})
    yield _family(of.UNPRICED, {(): seen.unpriced})
    yield _family(of.AWS_BUCKET, {(action,): tokens for action, tokens in seen.aws_tokens.items()})
    yield _family(of.QUEUE, {(state,): seen.queue.get(state, 0) for state in of.QUEUE_STATES})
    yield _family(of.TUNNELS, {(state,): seen.tunnels.get(state, 0) for state in of.TUNNEL_STATES})


def _family(definition: Definition, values: Mapping[tuple[str, ...], float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(definition.name, definition.help, labels=tuple(definition.labels))
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def new_registry() -> CollectorRegistry:
    """With what is told of every process of ours."""
    registry = CollectorRegistry()
    for collect in (ProcessCollector, PlatformCollector, GCCollector):
        collect(registry=registry)
    gauge(of.BUILD, registry).labels(version("kip-operator")).set(1)
    return registry


def counter(definition: Definition, registry: CollectorRegistry) -> Counter:
    return Counter(definition.name, definition.help, tuple(definition.labels), registry=registry)


def gauge(definition: Definition, registry: CollectorRegistry) -> Gauge:
    return Gauge(definition.name, definition.help, tuple(definition.labels), registry=registry)


def histogram(definition: Definition, registry: CollectorRegistry) -> Histogram:
    return Histogram(
        definition.name,
        definition.help,
        tuple(definition.labels),
        buckets=definition.buckets,
        registry=registry,
    )
