"""One virtual node, served: everything the operator consists of, put together once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kopf
import structlog

from kip.app.cluster import ClusterFacts
from kip.app.counting import CountingHooks
from kip.app.defaults import PodDefaults
from kip.app.directory import Directory, Keeper
from kip.app.journals import CellJournals
from kip.app.keys import OperatorKeys
from kip.app.location import Location
from kip.app.sightings import Observer
from kip.app.site import site_options
from kip.app.tunnels import SshTunnels
from kip.app.userdata import cell_user_data
from kip.cellapi.identity import CellIdentity
from kip.cellapi.server import CellApi
from kip.cells.admit import Admit
from kip.cells.connect import Connect
from kip.cells.drain import Drain
from kip.cells.fleet import Fleet
from kip.cells.garbage import Sweeper
from kip.cells.launch import Launch
from kip.cells.launcher import Launcher
from kip.cells.lifecycle import Lifecycle
from kip.cells.links import Links, Session
from kip.cells.market import MarketWatch
from kip.cells.neighbourhood import Neighbourhood
from kip.cells.plan import PlanOptions, SelectingPlanner
from kip.cells.platforms import ImagePlatforms
from kip.cells.queue import WorkQueue
from kip.cells.report import Reporter
from kip.cells.repository import Cells
from kip.cells.rest import Rests
from kip.cells.routekeeper import RouteKeeper
from kip.cells.routes import Routes
from kip.cells.seed import Seeder
from kip.cells.serve import Serve
from kip.cells.services import ServiceRules
from kip.cells.settings import CellSettings
from kip.cells.site import Sites, Variant
from kip.cells.spending import Spending
from kip.cells.stages import Tools
from kip.cells.tagger import Tagger
from kip.cells.tags import PodTags
from kip.cells.terminate import Terminate
from kip.cells.volumewatch import VolumeWatch
from kip.cloud import instance_data
from kip.cloud.base import Marketplace, PriceList
from kip.cloud.ec2 import Ec2Compute
from kip.cloud.images import Ec2Images
from kip.cloud.network import Ec2Network
from kip.cloud.offerings import Ec2Offerings
from kip.cloud.routes import Ec2Routes
from kip.cloud.sdk import Ec2Sdk
from kip.cloud.unavailable import UnavailableOfferings
from kip.config import Settings
from kip.handlers.runner import Watches
from kip.images.logins import PodLogins
from kip.images.rights import PodRights
from kip.kube.client import ApiClient
from kip.kube.errors import KubeError
from kip.kube.events import EventRecorder, Limit
from kip.kube.fence import FencedClient
from kip.kube.informer import Informer
from kip.kube.store import PodStore
from kip.kube.waiting import when_available
from kip.kubelet import pki
from kip.kubelet.auth import Authenticator, Authorizer
from kip.kubelet.certificate import ServingCertificate, Wanted
from kip.kubelet.clientca import ClientCa
from kip.kubelet.logs import KeptLogs
from kip.kubelet.server import KubeletServer
from kip.metering.keeper import Metering, Product
from kip.metering.use import Use
from kip.model import names
from kip.model.cell import Cell, Phase
from kip.model.clock import Clock
from kip.model.hugepages import HugePages
from kip.model.quantity import whole
from kip.node.cloudhealth import CloudHealth
from kip.node.events import NodeEvents
from kip.node.keeper import NodeKeeper
from kip.node.object import Health, NodeOptions
from kip.observe.metrics import Metrics, Snapshot
from kip.oci.access import AccessCheck
from kip.oci.client import Registries
from kip.pods import architecture, eligibility, placement
from kip.pods.annotations import healthy_timeout_s
from kip.pods.architecture import OfImages
from kip.tunnel.pool import TunnelPool

log = structlog.get_logger(__name__)

_GIVE_WAY_S = 30.0  # for each of some 80 pages

# For the first list of what all cells share; an API server that is up answers within a second.
_FIRST_LISTS_S = 60.0
# They repeat what the pods' events say, for those who look at Cells: of a thousand at once not all are wanted.
_CELL_EVENTS = Limit(burst=100, per_second=2.0)
# A Lease that is lost can be taken three seconds later (kip.kube.lease.Timing).
_CLOSE_S = 2.4


@dataclass(frozen=True)
class Surroundings:
    """What a process has before it serves a node."""

    settings: Settings
    client: ApiClient
    clock: Clock
    ec2: Ec2Sdk
    registries: Registries
    logins: PodLogins
    """As whom registries are asked."""
    prices: PriceList | None
    """None where there is none to ask."""
    keys: OperatorKeys
    cluster: ClusterFacts
    location: Location
    marketplace: Marketplace | None
    """None unless Kip was bought there."""
    metrics: Metrics
    identity: str
    """Of this process, for events and Leases."""
    platforms: ImagePlatforms
    run_dir: Path
    """For unix sockets; private to this process."""
    login: Callable[[], Awaitable[kopf.ConnectionInfo]]


class NodeServing:
    """Serves one virtual node from `start` to `close`; `run` works until it is cancelled or something breaks."""

    def __init__(self, around: Surroundings, node_name: str, *, may_write: Callable[[], bool]) -> None:
        """`may_write` is false for ever once the node's Lease may have been lost (kip.kube.lease.LeaseHolder.grant)."""
        self._around = around
        self._node_name = node_name
        self._may_write = may_write
        settings, clock = around.settings, around.clock
        client = self._client = FencedClient(around.client, may_write)
        self._tags = {names.TAG_CLUSTER: around.cluster.name, names.TAG_NODE: node_name}
        ec2 = around.ec2.fenced(may_write)
        self._compute = Ec2Compute(ec2)
        self._network = Ec2Network(ec2)
        self._pods = PodStore()
        self._spending = Spending(clock, around.metrics.spent)
        self._use = Use(clock)
        self._cells = Cells(client, node_name, seen=self._cell_seen, gone=self._cell_gone)
        self._informers = self._shared_informers()
        self._defaults = PodDefaults(self._informers["namespaces"].items, settings.cells.default_annotations)
        self._rules = ServiceRules(
            self._informers["services"].items,
            self._informers["endpointslices"].items,
            clock,
        )
        self._health = CloudHealth(self._network, clock, changed=self._poke_node)
        self._keeper = NodeKeeper(client, clock, self._node_options(), health=self._node_health)
        self._events = EventRecorder(client, clock, component="kip", host=node_name)
        self._cell_events = EventRecorder(client, clock, component="kip", host=node_name, limit=_CELL_EVENTS)
        self._node_events = NodeEvents(self._events, lambda: self._keeper.node)
        self._pool = TunnelPool(on_lost=lambda cell, why: log.info("connection lost", cell=cell, reason=why))
        self._api = CellApi(
            upstream=client,
            pods=self._pods,
            services=self._informers["services"],
            csidrivers=self._informers["csidrivers"],
            runtimeclasses=self._informers["runtimeclasses"],
            node=lambda: self._keeper.node,
            clock=clock,
            socket_dir=around.run_dir,
            impersonate=settings.cluster.impersonate_node,
            hooks=CountingHooks(around.metrics),
        )
        self._links = Links(
            SshTunnels(
                self._pool, around.keys.ssh_key, verity=settings.cells.image_cache.dm_verity == "auto"
            ),
            self._open_session,
            clock,
            socket_dir=around.run_dir,
            first_contact_key=around.keys.first_contact_public_key,
            rules=self._rules,
            changed=self._mark,
        )
        self._fleet = Fleet(self._compute, clock, tags=self._tags)
        called = f"Kip cell {settings.cells.nametag or around.cluster.name}/{node_name}"
        self._pod_tags = PodTags(called, settings.cells.nametag)
        self._launcher = Launcher(
            self._compute,
            clock,
            save=self._cells.save,
            holders=self._cells.holders,
            tags=self._tags,
            called=called,
        )
        self._routes = RouteKeeper(Ec2Routes(ec2), self._network, self._cells, clock, mark=self._mark)
        self._sites = self._make_sites()
        self._planner = self._make_planner()
        self._market = MarketWatch(
            # What instances are chosen by may be an hour older; pods that wait for one may not.
            Ec2Offerings(around.ec2, clock, give_way=lambda: self._queue.wait_quiet(at_most_s=_GIVE_WAY_S)),
            around.prices,
            clock,
            region=around.location.region,
            tell=self._planner.refresh,
            metrics=around.metrics.catalogue,
        )
        self._directory = Directory(self._cells, self._links, self._pods)
        self._cell_tls = pki.CellClient(around.keys.ca, clock)
        self._kept_logs = KeptLogs(
            client,
            self._cell_tls,
            clock,
            namespace=settings.cluster.namespace,
            node_name=node_name,
            limit_bytes=settings.cells.kept_logs.max_size,
        )
        self._events = EventRecorder(client, clock, component="kip", host=node_name)
        self._queue = WorkQueue(self._lifecycle().reconcile, clock, on_result=around.metrics.reconciled)
        self._tagger = Tagger(
            self._compute, self._fleet, self._cells, self._pods, clock, wanted=self._pod_tags
        )
        self._sweeper = Sweeper(
            self._fleet, self._cells, clock, mark=self._queue.mark, abandon=self._routes.abandon
        )
        self._observer = Observer(
            client,
            clock,
            node_name=node_name,
            pods=self._pods,
            cells=self._cells,
            keeper=self._keeper,
            mark=self._queue.mark,
            ended_pod_gone=self._forget_logs,
        )
        self._certificate = ServingCertificate(
            client,
            Wanted(node_name, (around.cluster.node_ip,), settings.kubelet.serving_certificate.signer_name),
            clock,
        )
        self._kubelet = self._kubelet_server()
        self._watches = Watches(
            self._observer,
            node_name=node_name,
            login=around.login,
            on_restart=self._observer.poke,
        )
        self._tasks: set[asyncio.Task[Any]] = set()

    # Life.

    async def run(self) -> None:
        """Serve until cancelled. Raises KubeError, CloudError or OSError if serving cannot begin."""
        around, clock = self._around, self._around.clock
        async with asyncio.TaskGroup() as group:
            for informer in self._informers.values():
                group.create_task(informer.run(), name="informer")
            await when_available(self._keeper.start, clock, what="the virtual node")
            await asyncio.gather(*(i.wait_synced(_FIRST_LISTS_S) for i in self._informers.values()))
            await self._kubelet.start()
            group.create_task(self._serve_certificate(), name="serving certificate")
            await when_available(self._observer.resync, clock, what="the node's pods and cells")
            self._background(self._node_events.served_by(around.identity, version("kip-operator")))
            log.info("serving", node=self._node_name, pods=len(self._pods), cells=len(self._cells.all()))
            for name, work in self._loops().items():
                group.create_task(work, name=name)

    async def close(self) -> None:
        """Let go of everything, within two and a half seconds whatever hangs; pods go on running. Raises nothing."""
        self._spending.settle()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(
            self._shut("connections to cells", self._links.close, self._pool.close, self._api.close),
            self._shut("kubelet API", self._kubelet.close),
            self._shut("calls to EC2", self._launcher.close, self._routes.close, self._compute.close),
        )

    async def _shut(self, what: str, *closers: Callable[[], Awaitable[None]]) -> None:
        for close in closers:
            try:
                async with asyncio.timeout(_CLOSE_S / len(closers)):
                    await close()
            except TimeoutError:
                log.error("not closed in time", what=what, step=close.__qualname__)
            except Exception:
                log.exception("not closed", what=what, step=close.__qualname__)

    def snapshot(self) -> Snapshot:
        """What there is now, for Prometheus."""
        self._spending.settle()
        cells = self._cells.all()
        launched = [cell for cell in cells if cell.instance_id]
        return Snapshot(
            phases=tuple(cell.phase for cell in cells),
            oldest_s=_oldest_s(cells, self._around.clock.now()),
            instances=tuple((c.instance_type or "", c.zone or "", c.market or "") for c in launched),
            usd_per_hour=self._spending.usd_per_hour(),
            unpriced=sum(cell.price is None for cell in launched),
            aws_tokens=self._compute.tokens(),
            queue=self._queue.depth(),
            tunnels=self._pool.states(),
        )

    def trouble(self) -> str | None:
        """Why this process cannot serve its node well just now; None if it can."""
        if self._keeper.last_error is not None:
            return f"the API server does not take the node's heartbeat: {self._keeper.last_error}"
        if self._watches.trouble is not None:
            return f"the watches of pods, cells and the node end by themselves: {self._watches.trouble}"
        return None if self._pods.synced else "the first lists are under way"

    def _loops(self) -> Mapping[str, Coroutine[Any, Any, Any]]:
        return {
            "cell API": self._api.run(),
            "work": self._queue.run(),
            "watches": self._watches.run(),
            "resync": self._observer.run(),
            "events": self._events.run(),
            "events on cells": self._cell_events.run(),
            "node": self._keeper.run(),
            "cloud health": self._health.run(),
            "sweep": self._sweeper.run(),
            "site": self._sites.run(),
            "cloud routes": self._routes.run(),
            "tags": self._tagger.run(),
            "market": self._market.run(),
            "services": self._rules.run(self._links.push_services),
            "kept logs": self._sweep_logs(),
            **self._metering(),
        }

    def _metering(self) -> Mapping[str, Coroutine[Any, Any, Any]]:
        around, sold = self._around, self._around.settings.cloud.aws.marketplace
        if around.marketplace is None or sold.product_code is None:
            return {}
        metering = Metering(
            self._client,
            around.clock,
            around.marketplace,
            self._use,
            Product(sold.product_code, sold.dimension),
            namespace=around.settings.cluster.namespace,
            node=self._node_name,
            identity=around.identity,
            metrics=around.metrics.metering,
        )
        return {"metering": metering.run()}

    async def _serve_certificate(self) -> None:
        await self._certificate.start()
        await self._certificate.keep_renewed()

    async def _sweep_logs(self) -> None:
        while True:
            await self._around.clock.sleep(60)
            if self._pods.synced:
                try:
                    await self._kept_logs.sweep({p["metadata"]["uid"] for p in self._pods.items()})
                except KubeError as error:
                    log.warning("kept logs not swept", error=str(error))

    def _forget_logs(self, pod_uid: str) -> None:
        """At once, so that a new pod of the same name does not show them; the sweep finds what this misses."""

        async def forget() -> None:
            try:
                await self._kept_logs.delete(pod_uid)
            except KubeError as error:
                log.info("kept logs not deleted yet", pod_uid=pod_uid, error=str(error))

        self._background(forget())

    def _background(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # What parts made earlier tell parts made later.

    def _mark(self, pod_uid: str) -> None:
        self._queue.mark(pod_uid)

    def _cell_seen(self, cell: Cell) -> None:
        self._spending.see(cell)
        self._use.see(cell)

    def _cell_gone(self, cell: Cell) -> None:
        self._spending.gone(cell)
        self._use.gone(cell)

    def _poke_node(self) -> None:
        self._keeper.poke()
        self._background(self._node_events.health_is(self._health.health))

    def _node_health(self) -> Health:
        """What the node says of itself, told to Prometheus as well."""
        health = self._health.health
        self._around.metrics.node_is(self._node_name, ready=health.ready)
        return health

    def _rules_changed(self) -> None:
        self._rules.changed()

    def _namespaces_changed(self) -> None:
        self._defaults.changed()

    # Parts.

    def _shared_informers(self) -> dict[str, Informer]:
        client, clock = self._client, self._around.clock
        return {
            "services": Informer(client, "/api/v1/services", clock=clock, on_change=self._rules_changed),
            "endpointslices": Informer(
                client,
                "/apis/discovery.k8s.io/v1/endpointslices",
                clock=clock,
                on_change=self._rules_changed,
            ),
            "csidrivers": Informer(client, "/apis/storage.k8s.io/v1/csidrivers", clock=clock),
            "runtimeclasses": Informer(client, "/apis/node.k8s.io/v1/runtimeclasses", clock=clock),
            "namespaces": Informer(
                client, "/api/v1/namespaces", clock=clock, on_change=self._namespaces_changed
            ),
        }

    def _node_options(self) -> NodeOptions:
        kubelet, cluster = self._around.settings.kubelet, self._around.cluster
        return NodeOptions(
            name=self._node_name,
            cluster=cluster.name,
            address=cluster.node_ip,
            kubelet_port=kubelet.port,
            capacity=kubelet.capacity,
            labels=kubelet.labels,
            kubelet_version=cluster.version,
        )

    def _lifecycle(self) -> Lifecycle:
        around, cells = self._around, self._around.settings.cells
        tools = Tools(
            settings=CellSettings(
                node_name=self._node_name,
                cluster=around.cluster.name,
                connect_timeout_s=cells.connect_timeout,
                start_timeout_s=cells.start_timeout,
                devices_timeout_s=cells.gpu.device_plugin_timeout,
            ),
            cells=self._cells,
            fleet=self._fleet,
            links=self._links,
            report=Reporter(
                self._client,
                self._events,
                around.clock,
                seen=self._pods.put,
                cell_of=self._cells.get,
                cell_events=self._cell_events,
            ),
            rests=Rests(around.clock),
            clock=around.clock,
            observe=around.metrics.pod_reached,
            count_launch=around.metrics.launched,
            count_given_up=around.metrics.given_up,
            healthy_timeout_s=lambda pod: healthy_timeout_s(pod, self._defaults.of(pod)),
        )
        keeper = Keeper(self._cells, self._directory, self._kept_logs)
        return Lifecycle(
            tools,
            self._pods,
            admit=Admit(tools, self._planner, self._refusal),
            launch=Launch(tools, self._launcher, self._planner, self._pod_tags),
            connect=self._connect(tools),
            serve=Serve(tools),
            routes=Routes(tools, self._routes, self._network, defaults=self._defaults.of),
            drain=Drain(tools, keeper),
            terminate=Terminate(tools, self._launcher, self._routes),
            may_write=self._may_write,
        )

    def _connect(self, tools: Tools) -> Connect:
        around, cache = self._around, self._around.settings.cells.image_cache
        if cache.endpoint is None:
            return Connect(tools)
        check = AccessCheck(around.registries, around.clock)
        seeder = Seeder(
            PodRights(around.registries, check, around.logins),
            around.clock,
            save=self._cells.save,
            report=tools.report,
            told=around.metrics,
            deadline_s=cache.deadline,
        )
        return Connect(tools, seeder, VolumeWatch(tools.report))

    def _make_sites(self) -> Sites:
        around = self._around
        return Sites(
            self._network,
            Ec2Images(around.ec2),
            around.clock,
            site_options(
                around.settings,
                around.location,
                cluster=around.cluster.name,
                kubernetes_minor=around.cluster.minor,
            ),
            user_data=self._user_data,
        )

    def _make_planner(self) -> SelectingPlanner:
        around, cells = self._around, self._around.settings.cells
        return SelectingPlanner(
            self._sites,
            UnavailableOfferings(clock=around.clock),
            PlanOptions(
                region=around.location.region,
                default_instance_type=cells.default_instance_type,
                default_volume_bytes=cells.default_volume_size,
                private_ip_only=cells.private_ip_only,
                instance_profile=cells.default_iam_permissions,
                allowed_types=cells.instance_types.allowed,
                excluded_types=cells.instance_types.excluded,
                instance_data=instance_data.of(cells.instance_data, around.location.region),
            ),
            around=Neighbourhood(self._client, self._pods, self._cells),
            defaults=self._defaults.of,
            built=self._built,
        )

    async def _built(self, pod: Mapping[str, Any]) -> OfImages:
        """What the pod's images are built for, if it leaves the architecture open."""
        around, by_pod = self._around, placement.architectures(pod)
        if by_pod is not None and len(by_pod) < 2:
            return architecture.NOTHING_SAID
        preference = around.settings.cells.image_architecture.multi_platform
        return architecture.of_images(await around.platforms.of(pod), preference)

    def _user_data(
        self, vpc_cidrs: tuple[str, ...], variant: Variant, huge_pages: tuple[HugePages, ...]
    ) -> bytes:
        around = self._around
        return cell_user_data(
            around.settings,
            self._node_name,
            dns=around.cluster.dns,
            vpc_cidrs=vpc_cidrs,
            keys=around.keys,
            gpus=variant == "nvidia",
            huge_pages=huge_pages,
        )

    def _refusal(self, pod: Mapping[str, Any]) -> tuple[str, str] | None:
        """Why this pod gets no cell, for its owner; None if it gets one."""
        allowed = self._around.settings.cells.allow_daemon_sets
        verdict = eligibility.judge(pod, nodes=(self._node_name,), allow_daemon_sets=allowed)
        return verdict.refusal

    async def _open_session(self, cell: Cell, pod: Mapping[str, Any], token: str) -> Session:
        instance_type = cell.instance_type or ""
        capacity = self._planner.capacity(instance_type)
        identity = CellIdentity(
            cell_name=cell.name,
            cell_uid=cell.uid,
            node_name=self._node_name,
            namespace=cell.pod_namespace,
            pod_name=cell.pod_name,
            pod_uid=cell.pod_uid,
            cell_address=cell.address or "",
            capacity=capacity,
            labels=self._planner.labels(instance_type, zone=cell.zone or "", market=cell.market or ""),
        )
        advertised = whole(capacity.get("memory", "0"))

        def memory_seen(seen_bytes: int) -> None:
            self._market.memory_seen(instance_type, seen_bytes, advertised_bytes=advertised)

        return await self._api.open(identity, token, pod_shown=cell.pod_may_run, memory_seen=memory_seen)

    def _kubelet_server(self) -> KubeletServer:
        around, kubelet = self._around, self._around.settings.kubelet
        return KubeletServer(
            host=str(kubelet.listen_address),
            port=kubelet.port,
            tls=self._certificate,
            client_ca=ClientCa(self._client, around.clock),
            authenticator=Authenticator(self._client, around.clock),
            authorizer=Authorizer(self._client, self._node_name, around.clock),
            directory=self._directory,
            cell_tls=self._cell_tls,
            kept_logs=self._kept_logs,
            system_logs=CellJournals(self._cells, self._pool, self._links),
            node_name=self._node_name,
            clock=around.clock,
            metrics=around.metrics.kubelet,
        )


def _oldest_s(cells: Iterable[Cell], now: datetime) -> dict[Phase, float]:
    """By phase, seconds since the last change of the cell of which that is longest."""
    oldest: dict[Phase, float] = {}
    for cell in cells:
        age_s = max(0.0, (now - cell.changed_at).total_seconds())
        oldest[cell.phase] = max(age_s, oldest.get(cell.phase, 0.0))
    return oldest
