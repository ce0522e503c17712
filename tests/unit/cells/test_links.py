"""A cell's connection: in which order things happen on it, and what follows its loss."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from kip.cells.link import Contact
from kip.cells.links import Links
from kip.cells.services import ServiceRules
from kip.model.cell import CONNECTED, SERVING, Cell, new_cell_object
from kip.model.clock import ManualClock, settle

POD = {"metadata": {"name": "web", "namespace": "shop", "uid": "u-1"}, "spec": {"nodeName": "n"}}
OWN, FIRST = "ssh-ed25519 OWN", "ssh-ed25519 FIRST"


def a_cell() -> Cell:
    obj = new_cell_object(POD)
    obj["metadata"] |= {"uid": "c-1", "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return replace(Cell.from_object(obj), instance_id="i-1", address="10.0.0.4")


def recorded(cell: Cell) -> Cell:
    return replace(cell, host_key=OWN)


def serving(cell: Cell) -> Cell:
    now = ManualClock().now()
    return recorded(cell).set(CONNECTED, "True", "", "", now=now).set(SERVING, "True", "", "", now=now)


class Session:
    socket_path = Path("/run/kip/c-1.sock")

    def __init__(self, told: list[str], *, pod_shown: bool) -> None:
        self._told = told
        self._asked = asyncio.Event()
        self._news = asyncio.Event()
        self.device_trouble = ""
        told.append(f"session opened, pod {'shown' if pod_shown else 'hidden'}")

    @property
    def kubelet_asked(self) -> bool:
        return self._asked.is_set()

    def ask(self) -> None:
        self._asked.set()

    def offered(self, resource: str) -> int:
        return 1 if self._news.is_set() else 0

    def report(self) -> None:
        self._news.set()

    async def wait_node_news(self) -> None:
        await self._news.wait()
        self._news.clear()

    def show_pod(self) -> None:
        self._told.append("pod shown")

    async def wait_first_request(self) -> None:
        await self._asked.wait()

    async def close(self) -> None:
        self._told.append("session closed")


class Tunnel:
    def __init__(self, world: World) -> None:
        self._world = world
        self.closed = asyncio.Event()
        self.deaf_to: set[str] = set()

    async def _say(self, what: str) -> None:
        await asyncio.sleep(0)
        self._world.told.append(what)
        if what in self.deaf_to:
            await asyncio.Event().wait()
        if what in self._world.broken:
            raise ConnectionError(f"{what}: broken")

    async def first_contact(self) -> Contact:
        await self._say("first contact")
        return Contact("t" * 40, OWN)

    async def activate_host_key(self) -> None:
        await self._say("own host key in use")

    async def push_services(self, supply) -> None:
        await self._say("services")

    async def forward_api(self, socket: Path) -> None:
        await self._say("API forwarded")

    async def forward_kubelet(self, socket: Path) -> None:
        await self._say("kubelet forwarded")

    async def wait_closed(self) -> None:
        await self.closed.wait()


class World:
    """Links over tunnels that say what is done with them."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.told: list[str] = []
        self.broken: set[str] = set()
        self.changed: list[str] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.keys: list[tuple[str, ...]] = []
        self.tunnels: list[Tunnel] = []
        self.sessions: list[Session] = []
        self.services: list[dict] = []
        self.rules = ServiceRules(lambda: self.services, list, self.clock)
        self.links = Links(
            self,
            self.open_session,
            self.clock,
            socket_dir=Path("/run/kip"),
            first_contact_key=FIRST,
            rules=self.rules,
            changed=self.changed.append,
        )

    async def dial(self, cell: str, address: str, host_keys: tuple[str, ...]) -> Tunnel:
        self.told.append("dialled")
        self.keys.append(host_keys)
        await self.answers.wait()
        if "dial" in self.broken:
            raise ConnectionError("host key mismatch")
        self.tunnels.append(Tunnel(self))
        return self.tunnels[-1]

    async def drop(self, cell: str) -> None:
        self.told.append("dropped")
        for tunnel in self.tunnels:
            tunnel.closed.set()

    def trouble(self, cell: str) -> str:
        return ""

    async def open_session(self, cell, pod, token) -> Session:
        self.sessions.append(Session(self.told, pod_shown=cell.pod_may_run))
        return self.sessions[-1]

    async def ensure(self, cell: Cell):
        link = self.links.ensure(cell, POD)
        await settle()
        return link

    def position(self, what: str) -> int:
        return self.told.index(what)


@pytest.fixture
async def world():
    made = World()
    yield made
    await made.links.close()


async def test_at_first_contact_the_kubelet_is_let_in_without_a_pod(world):
    link = await world.ensure(a_cell())
    assert link.state == "contacted"
    assert link.host_key == OWN
    assert "session opened, pod hidden" in world.told
    assert "API forwarded" in world.told
    assert "pod shown" not in world.told
    assert "own host key in use" not in world.told
    assert world.changed == ["u-1"]


async def test_the_pod_is_shown_only_behind_the_cells_own_host_key(world):
    link = await world.ensure(a_cell())
    assert await world.links.show_pod(link)
    assert link.state == "up"
    assert world.position("own host key in use") < world.position("pod shown")


async def test_again_everything_is_ready_before_the_kubelet_is_let_in(world):
    """A kubelet that sees an empty list kills its containers."""
    link = await world.ensure(serving(a_cell()))
    assert link.state == "up"
    forwarded = world.position("API forwarded")
    for earlier in ("session opened, pod shown", "own host key in use", "pod shown", "services"):
        assert world.position(earlier) < forwarded, world.told


@pytest.mark.parametrize(
    ("cell", "keys"),
    [
        (a_cell(), (FIRST,)),
        (recorded(a_cell()), (OWN, FIRST)),
        (serving(a_cell()), (OWN,)),
    ],
    ids=["new", "recorded, perhaps not in use", "served"],
)
async def test_the_shared_key_counts_only_until_the_pod_is_served(world, cell, keys):
    await world.ensure(cell)
    assert world.keys == [keys]


async def test_an_open_link_is_not_dialled_again(world):
    one = await world.ensure(serving(a_cell()))
    assert await world.ensure(serving(a_cell())) is one
    assert world.told.count("dialled") == 1


async def test_a_lost_link_is_dialled_again_after_a_while_and_its_session_is_closed_first(world):
    first = await world.ensure(serving(a_cell()))
    world.tunnels[0].closed.set()
    await settle()
    assert first.state == "lost"
    assert world.told[-1] == "session closed"
    assert await world.ensure(serving(a_cell())) is first, "not at once"
    await world.clock.advance(0.3)
    second = await world.ensure(serving(a_cell()))
    assert second is not first
    assert second.state == "up"


async def test_a_cell_that_flaps_is_dialled_ever_more_slowly(world):
    cell, delays = serving(a_cell()), []
    for _ in range(8):
        link = await world.ensure(cell)
        world.tunnels[-1].closed.set()
        await settle()
        delays.append(round(link.retry_at - world.clock.monotonic(), 3))
        await world.clock.advance(delays[-1])
    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


async def test_a_link_that_held_for_a_while_has_no_past(world):
    cell = serving(a_cell())
    for _ in range(5):
        link = await world.ensure(cell)
        world.tunnels[-1].closed.set()
        await settle()
        await world.clock.advance(10)
    link = await world.ensure(cell)
    await world.clock.advance(60)
    world.tunnels[-1].closed.set()
    await settle()
    assert link.retry_at - world.clock.monotonic() == pytest.approx(0.2)


async def test_after_days_of_failures_it_still_tries(world):
    """Two to the power of some thousand is no number of seconds."""
    world.broken.add("first contact")
    link = await world.ensure(serving(a_cell()))
    link.failures = 5000
    await world.clock.advance(60)
    again = await world.ensure(serving(a_cell()))
    assert (again.state, again.failures) == ("lost", 5001)


@pytest.mark.parametrize(
    "step", ["dial", "first contact", "services", "API forwarded", "own host key in use"]
)
async def test_what_breaks_on_the_way_is_told_and_tried_again(world, step):
    world.broken.add(step)
    link = await world.ensure(serving(a_cell()))
    assert link.state == "lost"
    assert "ConnectionError" in world.links.trouble(link)
    assert world.changed == ["u-1"]
    world.broken.clear()
    await world.clock.advance(1)
    assert (await world.ensure(serving(a_cell()))).state == "up"


async def test_a_host_key_that_cannot_be_put_to_use_costs_the_connection_not_the_pod(world):
    link = await world.ensure(a_cell())
    world.broken.add("own host key in use")
    assert not await world.links.show_pod(link)
    await settle()
    assert link.state == "lost"
    assert "pod shown" not in world.told
    assert "host key" in world.links.trouble(link)


async def test_a_link_lost_before_the_pod_is_shown_shows_nothing(world):
    link = await world.ensure(a_cell())
    world.tunnels[0].closed.set()
    await settle()
    assert not await world.links.show_pod(link)


async def test_dropping_ends_a_dial_under_way(world):
    world.answers.clear()
    link = await world.ensure(a_cell())
    assert link.state == "dialling"
    await world.links.drop("kip-u-1")
    assert world.links.get("kip-u-1") is None
    world.answers.set()
    await settle()
    assert world.tunnels == []


async def test_dropping_closes_session_and_connection(world):
    await world.ensure(serving(a_cell()))
    await world.links.drop("kip-u-1")
    assert world.tunnels[0].closed.is_set()
    assert "session closed" in world.told


async def test_after_closing_nothing_is_dialled(world):
    await world.ensure(serving(a_cell()))
    await world.links.close()
    assert world.tunnels[0].closed.is_set()
    with pytest.raises(RuntimeError, match="all links are closed"):
        world.links.ensure(serving(a_cell()), POD)


async def test_another_instance_of_the_same_cell_gets_its_own_link(world):
    first = await world.ensure(serving(a_cell()))
    second = await world.ensure(replace(serving(a_cell()), instance_id="i-2", address="10.0.0.9"))
    assert second is not first
    assert second.state == "up"
    assert world.told.count("session closed") == 1


async def test_the_kubelets_first_request_is_news(world):
    link = await world.ensure(a_cell())
    assert not link.kubelet_asked
    world.sessions[0].ask()
    await settle()
    assert link.kubelet_asked
    assert world.changed == ["u-1", "u-1"]


async def test_what_the_kubelet_reports_is_news_until_it_has_its_pod(world):
    link = await world.ensure(a_cell())
    [session] = world.sessions
    session.ask()
    await settle()
    told = len(world.changed)
    session.report()
    await settle()
    assert len(world.changed) == told + 1
    assert await world.links.show_pod(link)
    session.report()
    await settle()
    assert len(world.changed) == told + 1


async def test_new_service_rules_reach_connected_cells_and_a_cell_that_fails_is_redialled(world):
    link = await world.ensure(serving(a_cell()))
    bringing = asyncio.create_task(world.rules.run(world.links.push_services))
    world.services.append(
        {
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 80}]},
        }
    )
    before = world.told.count("services")
    world.rules.changed()
    await world.clock.advance(1)
    assert world.told.count("services") == before + 1
    world.broken.add("services")
    world.services.clear()
    world.rules.changed()
    await world.clock.advance(1)
    assert link.state == "lost"
    bringing.cancel()


async def test_a_cell_that_does_not_answer_keeps_no_news_from_the_others(world):
    await world.ensure(serving(a_cell()))
    await world.ensure(serving(replace(a_cell(), name="kip-u-2", pod_uid="u-2", instance_id="i-2")))
    world.tunnels[0].deaf_to.add("services")
    bringing = asyncio.create_task(world.rules.run(world.links.push_services))
    before = world.told.count("services")
    for number in range(3):
        world.services.append(
            {
                "metadata": {"name": f"web-{number}", "namespace": "shop"},
                "spec": {"clusterIP": f"10.96.0.{number + 7}", "ports": [{"port": 80}]},
            }
        )
        world.rules.changed()
        await world.clock.advance(1)
    assert world.told.count("services") == before + 1 + 3
    bringing.cancel()
    await world.links.close()
