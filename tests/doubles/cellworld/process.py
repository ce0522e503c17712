"""One process of the operator, of real parts between a network that can be cut and a cloud that can be cut."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellworld.outside import FIRST_CONTACT_KEY, Machine, Outside

from kip.app.sightings import Observer
from kip.cellapi.versions import Signal
from kip.cells.admit import Admit
from kip.cells.connect import Connect
from kip.cells.drain import Drain
from kip.cells.fleet import Fleet
from kip.cells.garbage import Sweeper
from kip.cells.launch import Launch
from kip.cells.launcher import Launcher
from kip.cells.lifecycle import Lifecycle
from kip.cells.link import Contact
from kip.cells.links import Links
from kip.cells.neighbourhood import Neighbourhood
from kip.cells.plan import PlanOptions, SelectingPlanner
from kip.cells.queue import WorkQueue
from kip.cells.report import Reporter
from kip.cells.repository import CELLS_PATH, Cells
from kip.cells.rest import Rests
from kip.cells.routekeeper import RouteKeeper
from kip.cells.routes import Routes
from kip.cells.serve import Serve
from kip.cells.services import ServiceRules, Supply
from kip.cells.settings import CellSettings
from kip.cells.site import SiteOptions, Sites
from kip.cells.stages import Tools
from kip.cells.tags import PodTags
from kip.cells.terminate import Terminate
from kip.cloud.base import ALL_STATES, Instance, InstanceState, LaunchRequest
from kip.cloud.fake import FakeCloud
from kip.cloud.routes import RouteTable
from kip.cloud.unavailable import UnavailableOfferings
from kip.kube.client import ApiClient
from kip.kube.events import EventRecorder
from kip.kube.store import PodStore
from kip.kube.waiting import when_available
from kip.kube.watch import Changed, Listed, follow
from kip.model import names
from kip.model.cell import Cell
from kip.model.clock import Clock
from kip.node.keeper import NodeKeeper
from kip.node.object import HEALTHY, NodeOptions
from kip.pods.annotations import Layer, healthy_timeout_s
from kip.tunnel.errors import HostKeyMismatch

CLUSTER = "test"
# After its launch an instance is not in DescribeInstances for some seconds.
INVISIBLE_S = 3.0


@dataclass(frozen=True)
class Crash:
    """The process dies at its `step`th call to the outside: before it takes effect, or after, unanswered."""

    step: int
    after: bool


class Mortal:
    """Counts the calls to the outside; dies at one of them. A dead process does nothing any more."""

    def __init__(self, crash: Crash | None = None) -> None:
        self._crash = crash
        self._one_by_one = asyncio.Lock()
        self.steps: list[str] = []
        self.crashed = False
        self.dead = False
        self.buried = False

    @property
    def waiting(self) -> bool:
        """A call is under way."""
        return self._one_by_one.locked() and not self.dead

    async def step(self, what: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """Calls are made one after the other: what is under way in parallel can be cut between any two."""
        async with self._one_by_one:
            if not self.dead:
                self.steps.append(what)
                crash = self._crash
                if crash is None or len(self.steps) - 1 != crash.step:
                    return await call()
                if crash.after:
                    with suppress(Exception):
                        await call()
                self.crashed = self.dead = True
        return await self._nothing()

    async def _nothing(self) -> None:
        """A call of a process that is no more never returns; cleaning up after it, the test must get through."""
        if not self.buried:
            await asyncio.Event().wait()
        raise asyncio.CancelledError


class MortalApi(ApiClient):
    """An API client whose process can die."""

    def __init__(self, inner: ApiClient, mortal: Mortal) -> None:
        self._inner = inner
        self._mortal = mortal

    @property
    def server(self) -> str:
        return self._inner.server

    async def request(self, method: str, path: str, **options: Any) -> Any:
        what = f"{method} {path}"
        return await self._mortal.step(what, lambda: self._inner.request(method, path, **options))


class MortalCompute:
    """EC2 for a process that can die; as eventually consistent as the real one."""

    def __init__(self, inner: FakeCloud, mortal: Mortal, clock: Clock) -> None:
        self._inner = inner
        self._mortal = mortal
        self._clock = clock

    async def launch(self, request: LaunchRequest) -> tuple[Instance, ...]:
        launched: tuple[Instance, ...] = await self._mortal.step(
            "RunInstances", lambda: self._inner.launch(request)
        )
        return launched

    def launch_wait_s(self, ahead: int = 0) -> float:
        return self._inner.launch_wait_s(ahead)

    async def describe(
        self, *, tags: Mapping[str, str], states: Collection[InstanceState] = ALL_STATES
    ) -> list[Instance]:
        return self._visible(
            await self._mortal.step(
                "DescribeInstances", lambda: self._inner.describe(tags=tags, states=states)
            )
        )

    async def describe_ids(self, ids: Collection[str]) -> list[Instance]:
        return self._visible(
            await self._mortal.step("DescribeInstances", lambda: self._inner.describe_ids(ids))
        )

    async def terminate(self, ids: Collection[str]) -> None:
        await self._mortal.step("TerminateInstances", lambda: self._inner.terminate(ids))

    async def tag(self, ids: Collection[str], tags: Mapping[str, str]) -> None:
        await self._mortal.step("CreateTags", lambda: self._inner.tag(ids, tags))

    def _visible(self, instances: list[Instance]) -> list[Instance]:
        now = self._clock.now()
        return [i for i in instances if i.gone or (now - i.launch_time).total_seconds() > INVISIBLE_S]


class MortalRouting:
    """Route tables for a process that can die."""

    def __init__(self, inner: FakeCloud, mortal: Mortal) -> None:
        self._inner = inner
        self._mortal = mortal

    async def route_tables(self, vpc_ids: Collection[str] | None = None) -> list[RouteTable]:
        found: list[RouteTable] = await self._mortal.step(
            "DescribeRouteTables", lambda: self._inner.route_tables(vpc_ids)
        )
        return found

    async def create_route(self, table_id: str, cidr: str, network_interface_id: str) -> None:
        await self._mortal.step(
            "CreateRoute", lambda: self._inner.create_route(table_id, cidr, network_interface_id)
        )

    async def delete_route(self, table_id: str, cidr: str) -> None:
        await self._mortal.step("DeleteRoute", lambda: self._inner.delete_route(table_id, cidr))

    async def pass_foreign_traffic(self, instance_id: str) -> None:
        await self._mortal.step(
            "ModifyInstanceAttribute", lambda: self._inner.pass_foreign_traffic(instance_id)
        )


class Session:
    """What the kubelet is let see."""

    def __init__(self, pod: Mapping[str, Any], path: Path, *, pod_shown: bool) -> None:
        self.pod = dict(pod)
        self.socket_path = path
        self.pod_shown = pod_shown
        self.device_trouble = ""
        self._offers: dict[str, int] = {}
        self._asked = asyncio.Event()
        self._news = Signal()

    @property
    def kubelet_asked(self) -> bool:
        return self._asked.is_set()

    def offered(self, resource: str) -> int:
        return self._offers.get(resource, 0)

    def report(self, offers: Mapping[str, int], trouble: str) -> None:
        """The kubelet tells of its devices."""
        if (dict(offers), trouble) != (self._offers, self.device_trouble):
            self._offers, self.device_trouble = dict(offers), trouble
            self._news.fire()

    async def wait_node_news(self) -> None:
        await self._news.wait()

    def ask(self) -> None:
        self._asked.set()

    def show_pod(self) -> None:
        self.pod_shown = True

    async def wait_first_request(self) -> None:
        await self._asked.wait()

    async def close(self) -> None:
        pass


class CellTunnel:
    """A connection to a machine."""

    def __init__(self, process: Process, cell: str, machine: Machine) -> None:
        self._process = process
        self._cell = cell
        self._machine = machine
        self._closed = asyncio.Event()
        self._api: Session | None = None

    async def _step(self, what: str, effect: Callable[[], Awaitable[Any]]) -> Any:
        if self._closed.is_set():
            raise ConnectionError(f"the connection to {self._cell} is closed")
        return await self._process.mortal.step(f"ssh: {what}", effect)

    async def first_contact(self) -> Contact:
        async def read() -> Contact:
            return Contact("t" * 40, self._machine.own_key if self._machine.boots else None)

        contact: Contact = await self._step("first contact", read)
        return contact

    async def activate_host_key(self) -> None:
        await self._step("activate host key", self._activate)

    async def _activate(self) -> None:
        machine, outside = self._machine, self._process.outside
        cell = await outside.admin.get(f"{CELLS_PATH}/{self._cell}")
        if (cell.get("status") or {}).get("hostKey") != machine.own_key:
            outside.violations.append(f"{self._cell} uses a host key that nobody has recorded")
        machine.shown_key = machine.own_key

    async def push_services(self, supply: Supply) -> None:
        await self._step("services", _nothing)

    async def forward_api(self, socket: Path) -> None:
        async def let_in() -> None:
            self._api = self._machine.api = self._process.sessions[socket]

        await self._step("forward the API", let_in)

    async def forward_kubelet(self, socket: Path) -> None:
        await self._step("forward the kubelet", _nothing)

    async def wait_closed(self) -> None:
        await self._closed.wait()

    def cut(self) -> None:
        self._closed.set()
        if self._machine.api is self._api:
            self._machine.api = None


async def _nothing() -> None:
    await asyncio.sleep(0)


class Tunnels:
    """Dials until the machine answers."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._open: dict[str, CellTunnel] = {}
        self.dials: list[str] = []

    async def dial(self, cell: str, address: str, host_keys: tuple[str, ...]) -> CellTunnel:
        outside = self._process.outside
        self.dials.append(cell)
        while True:
            machine = outside.at(address)
            if machine is not None:
                break
            await self._process.clock.sleep(0.1)
        if machine.shown_key not in host_keys:
            raise HostKeyMismatch(f"{address} shows {machine.shown_key}, accepted are {host_keys}")
        tunnel = self._open[cell] = CellTunnel(self._process, cell, machine)
        return tunnel

    async def drop(self, cell: str) -> None:
        tunnel = self._open.pop(cell, None)
        if tunnel is not None:
            tunnel.cut()

    def trouble(self, cell: str) -> str:
        return ""

    def cut_all(self) -> None:
        for tunnel in self._open.values():
            tunnel.cut()


class LogKeeper:
    """Keeps logs, if the cell can be reached."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def keep(self, pod: Mapping[str, Any]) -> str:
        cell = names.cell_name(pod["metadata"]["uid"])
        link = self._process.links.get(cell)
        if link is None or link.kubelet_socket is None:
            raise ConnectionError(f"{cell} is not connected")

        async def keep() -> None:
            self._process.outside.logs_kept.append(pod["metadata"]["uid"])

        await self._process.mortal.step("keep logs", keep)
        return "12 bytes of logs kept"


class Process:
    """Put together as kip.app.serving.node does it, with another outside."""

    def __init__(
        self,
        outside: Outside,
        api: ApiClient,
        clock: Clock,
        *,
        node: str,
        settings: CellSettings,
        crash: Crash | None = None,
    ) -> None:
        self.outside = outside
        self.clock = clock
        self.mortal = Mortal(crash)
        self.sessions: dict[Path, Session] = {}
        self.may_write = True
        #: Annotations that count for pods that lack them.
        self.defaults: tuple[Layer, ...] = ()
        self._watching = api
        self._node = node
        api = self.api = MortalApi(api, self.mortal)
        compute = MortalCompute(outside.cloud, self.mortal, clock)
        tags = {names.TAG_CLUSTER: CLUSTER, names.TAG_NODE: node}
        self.pods = PodStore()
        self.cells = Cells(api, node)
        self.fleet = Fleet(compute, clock, tags=tags)
        self.launcher = Launcher(compute, clock, save=self.cells.save, holders=self.cells.holders, tags=tags)
        self.results: list[str] = []
        self.queue = WorkQueue(clock, on_result=self.results.append)
        self.tunnels = Tunnels(self)
        self.links = Links(
            self.tunnels,
            self._open_session,
            clock,
            socket_dir=Path("/run/kip"),
            first_contact_key=FIRST_CONTACT_KEY,
            rules=ServiceRules(list, list, clock),
            changed=self.queue.mark,
        )
        self.defaults: tuple[Layer, ...] = ()
        self.observed: list[str] = []
        self.counted: Counter[str] = Counter()
        self.routes = RouteKeeper(
            MortalRouting(outside.cloud, self.mortal), outside.cloud, self.cells, clock, mark=self.queue.mark
        )
        self.lifecycle = self._lifecycle(settings)
        self.sweeper = Sweeper(
            self.fleet, self.cells, clock, mark=self.queue.mark, abandon=self.routes.abandon
        )
        options = NodeOptions(node, CLUSTER, "127.0.0.1", 10250, {"cpu": "1"})
        self.observer = Observer(
            api,
            clock,
            node_name=node,
            pods=self.pods,
            cells=self.cells,
            keeper=NodeKeeper(api, clock, options, health=lambda: HEALTHY),
            mark=self.queue.mark,
            ended_pod_gone=lambda uid: None,
        )
        self._tasks: list[asyncio.Task[Any]] = []

    def _count_launch(self, *, result: str, reason: str = "") -> None:
        self.counted.update([f"launch {result} {reason}".strip()])

    def _lifecycle(self, settings: CellSettings) -> Lifecycle:
        events = EventRecorder(self.api, self.clock, component="kip", host=self._node)
        self.tools = Tools(
            settings=settings,
            cells=self.cells,
            fleet=self.fleet,
            links=self.links,
            report=Reporter(
                self.api,
                events,
                self.clock,
                seen=self.pods.put,
                cell_of=self.cells.get,
                cell_events=EventRecorder(self.api, self.clock, component="kip", host=self._node),
            ),
            rests=Rests(self.clock),
            clock=self.clock,
            observe=lambda stage, seconds: self.observed.append(stage),
            count_launch=self._count_launch,
            count_given_up=lambda reason: self.counted.update([f"given up {reason}"]),
            healthy_timeout_s=healthy_timeout_s,
        )
        cloud = self.outside.cloud
        options = SiteOptions(cluster=CLUSTER, kubernetes_minor="1.36")
        sites = Sites(cloud, cloud, self.clock, options, user_data=lambda *_: b"#cloud-config\n{}")
        planner = SelectingPlanner(
            sites,
            UnavailableOfferings(clock=self.clock),
            PlanOptions(region="us-east-1", default_instance_type="t3.nano", default_volume_bytes=0),
            around=Neighbourhood(self.api, self.pods, self.cells),
            defaults=lambda pod: self.defaults,
        )
        return Lifecycle(
            self.tools,
            self.pods,
            admit=Admit(self.tools, planner, lambda pod: None),
            launch=Launch(self.tools, self.launcher, planner, PodTags("Kip cell")),
            connect=Connect(self.tools),
            serve=Serve(self.tools),
            routes=Routes(self.tools, self.routes, cloud, defaults=lambda pod: self.defaults),
            drain=Drain(self.tools, LogKeeper(self)),
            terminate=Terminate(self.tools, self.launcher, self.routes),
            may_write=lambda: self.may_write,
        )

    async def _open_session(self, cell: Cell, pod: Mapping[str, Any], token: str) -> Session:
        session = Session(pod, Path(f"/run/kip/{cell.uid}.sock"), pod_shown=cell.pod_may_run)
        self.sessions[session.socket_path] = session
        return session

    def start(self) -> None:
        """Work, as a process does after it got its Lease."""
        self._tasks = [asyncio.create_task(self._run(), name="process")]

    async def _run(self) -> None:
        await when_available(self.observer.resync, self.clock, what="pods and cells")
        async with asyncio.TaskGroup() as group:
            group.create_task(self.queue.run(self.lifecycle.reconcile))
            group.create_task(self.sweeper.run())
            group.create_task(self.routes.run())
            group.create_task(
                self._follow(
                    "/api/v1/pods", {"fieldSelector": f"spec.nodeName={self._node}"}, self.observer.pod
                )
            )
            group.create_task(self._follow(CELLS_PATH, self.cells.selector, self.observer.cell))

    async def _follow(
        self, path: str, params: Mapping[str, str], tell: Callable[[str | None, dict[str, Any]], None]
    ) -> None:
        """As kopf does it: the objects of a list without a kind, deletions only of what is watched."""
        async for news in follow(self._watching, path, params, self.clock):
            match news:
                case Listed(items):
                    for item in items:
                        tell(None, item)
                case Changed(kind, obj) if kind != "BOOKMARK":
                    tell(kind, obj)

    @property
    def failure(self) -> BaseException | None:
        """What ended it, other than death."""
        ended = [task for task in self._tasks if task.done() and not task.cancelled()]
        return ended[0].exception() if ended else None

    async def bury(self) -> None:
        """Nothing of it is left; its connections are gone."""
        self.mortal.dead = self.mortal.buried = True
        self.tunnels.cut_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.links.close()
        await self.launcher.close()
        await self.routes.close()
