"""Two nodes' processes and one ledger: AWS hears of each hour once, whatever fails."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from kip.cloud.errors import CloudError, NotAuthorized, TokenConflict, Unreachable
from kip.cloud.fake_metering import FakeMarketplace
from kip.kube.fake import FakeApi
from kip.metering.keeper import TICK_S, Metering, Product
from kip.metering.use import Use
from kip.model.cell import LAUNCHED, Cell, new_cell_object
from kip.model.clock import ManualClock, to_rfc3339
from kip.observe.metrics import MeteringMetrics

PRODUCT = Product("code", "CellHours")
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kip/leases"
HOUR_S = 3600.0


class World:
    """It is ten to the hour when Kip begins."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.api = FakeApi(clock=self.clock)
        self.market = FakeMarketplace(self.clock, product_code="code", dimension="CellHours")
        self.registry = CollectorRegistry()
        self.metrics = MeteringMetrics(self.registry)
        self.metrics.begin("code")
        self.uses: dict[str, Use] = {}

    def process(self, node: str, identity: str | None = None) -> Metering:
        """A new process that serves the node, and knows its cells."""
        known = self.uses.get(node)
        use = self.uses[node] = Use(self.clock)
        for uid, (instance, since) in (known._running if known else {}).items():
            use._running[uid] = (instance, since)
        return Metering(
            self.api,
            self.clock,
            self.market,
            use,
            PRODUCT,
            namespace="kip",
            node=node,
            identity=identity or f"pod-of-{node}",
            metrics=self.metrics,
        )

    def launch(self, node: str, name: str) -> Cell:
        pod = {"metadata": {"name": name, "namespace": "shop", "uid": name}, "spec": {"nodeName": node}}
        made = new_cell_object(pod)
        now = self.clock.now()
        made["metadata"] |= {"uid": name, "resourceVersion": "1", "creationTimestamp": to_rfc3339(now)}
        cell = replace(Cell.from_object(made), instance_id=f"i-{name}").set(
            LAUNCHED, "True", "Launched", "", now=now
        )
        self.uses[node].see(cell)
        return cell

    def told(self) -> list[int]:
        return [record.quantity for record in self.market.records]

    def ledger(self) -> dict:
        [lease] = self.api.all("leases")
        return json.loads(lease["metadata"]["annotations"]["kip.elotl.co/metering"])

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, {"product": "code", **labels})


@pytest.fixture
async def world() -> World:
    made = World()
    await made.clock.advance(50 * 60)
    return made


async def tick(world: World, *processes: Metering, hours: float) -> None:
    """Time passes, and the processes do what they do."""
    end = world.clock.monotonic() + hours * HOUR_S
    while world.clock.monotonic() < end:
        await world.clock.advance(min(TICK_S, end - world.clock.monotonic()))
        for process in processes:
            await process.tick()


async def test_hours_of_two_nodes_are_told_once_an_hour(world: World) -> None:
    a, b = world.process("a"), world.process("b")
    await tick(world, a, b, hours=0.01)
    for number in range(3):
        world.launch("a", f"a-{number}")
    world.launch("b", "b")
    await tick(world, a, b, hours=5)
    # 4 cells; the first hour was over after ten minutes, the sixth is not.
    assert sum(world.told()) == 4 * 4 + 0
    assert len(world.told()) == 5
    hours = [record.timestamp.hour for record in world.market.records]
    assert hours == [0, 1, 2, 3, 4]
    assert world.value("kip_metering_records_total", result="ok") == 5
    assert world.value("kip_metering_untold_cell_hours") == pytest.approx(20 - 16 - 4 * 0.01, abs=0.4)


async def test_what_is_left_of_an_hour_is_not_lost(world: World) -> None:
    a = world.process("a")
    await a.tick()
    world.launch("a", "short")
    await tick(world, a, hours=20)
    assert sum(world.told()) == 19


async def test_a_process_that_dies_while_it_sends_is_followed_by_one_that_sends_the_same(
    world: World,
) -> None:
    a = world.process("a")
    await a.tick()
    for number in range(6):
        world.launch("a", str(number))
    world.market.fail(Unreachable("the answer was lost"), after=True)
    await tick(world, a, hours=1 / 6)
    assert world.told() == [1]
    assert world.ledger()["sending"]["unsure"] is True
    successor = world.process("a", "another-pod")
    await tick(world, successor, hours=1)
    assert world.told() == [1, 6]
    assert len({record.token for record in world.market.records}) == 2


async def test_while_aws_is_away_use_is_counted_and_told_later(world: World) -> None:
    a = world.process("a")
    await a.tick()
    world.launch("a", "web")
    for _ in range(12 * 4):
        world.market.fail(NotAuthorized("no", action="MeterUsage", code="AccessDeniedException"))
    await tick(world, a, hours=4)
    assert world.told() == []
    await tick(world, a, hours=5)
    assert sum(world.told()) == 8
    assert world.value("kip_metering_records_total", result="NotAuthorized") == 12 * 4


async def test_what_aws_takes_no_more_goes_into_the_next_hour(world: World) -> None:
    a = world.process("a")
    await a.tick()
    for number in range(30):
        world.launch("a", str(number))
    refusal = NotAuthorized("no", action="MeterUsage", code="AccessDeniedException")
    for _ in range(12 * 9):
        world.market.fail(refusal)
    await tick(world, a, hours=9)
    assert world.told() == []
    await tick(world, a, hours=1)
    assert sum(world.told()) == pytest.approx(30 * 9, abs=30), "all of it, though six hours are AWS's limit"
    assert world.ledger()["sending"] is None


async def test_what_aws_may_have_is_given_away_rather_than_told_twice(world: World) -> None:
    a = world.process("a")
    await a.tick()
    for number in range(30):
        world.launch("a", str(number))
    for _ in range(12 * 9):
        world.market.fail(Unreachable("no route"))
    await tick(world, a, hours=10)
    lost = 30 / 6  # the record of the first ten minutes
    assert sum(world.told()) == pytest.approx(30 * 9 - lost, abs=30)


async def test_a_record_that_another_has_told_is_not_insisted_on(world: World) -> None:
    a = world.process("a")
    await a.tick()
    world.market.fail(TokenConflict("told already", action="MeterUsage", code="DuplicateRequestException"))
    await tick(world, a, hours=0.2)
    assert world.told() == []
    assert world.ledger()["sending"] is None
    await tick(world, a, hours=1)
    assert len(world.told()) == 1


async def test_writes_of_two_at_once_are_both_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = world.process("a"), world.process("b")
    await a.tick()
    await b.tick()
    world.launch("a", "web")
    world.launch("b", "db")
    await world.clock.advance(60)
    replace_ = world.api.replace
    conflicts = 0

    async def contested(path: str, obj: object) -> object:
        nonlocal conflicts
        if conflicts == 0:
            conflicts += 1
            await b.tick()
        return await replace_(path, obj)

    monkeypatch.setattr(world.api, "replace", contested)
    await a.tick()
    assert conflicts == 1
    assert world.ledger()["cellSeconds"] == 120


async def test_a_ledger_that_nobody_can_read_is_told_and_left_alone(world: World) -> None:
    a = world.process("a")
    await a.tick()
    await world.api.patch(
        f"{LEASES}/kip-metering", {"metadata": {"annotations": {"kip.elotl.co/metering": "{}"}}}
    )
    with pytest.raises(
        ValueError, match=r"annotation kip\.elotl\.co/metering of Lease kip-metering: KeyError"
    ):
        await a.tick()
    [lease] = world.api.all("leases")
    assert lease["metadata"]["annotations"]["kip.elotl.co/metering"] == "{}"


async def test_troubles_of_others_do_not_end_the_loop(world: World) -> None:
    a = world.process("a")
    world.api.away = True
    running = asyncio.create_task(a.run())
    await world.clock.advance(1)
    assert not running.done()
    world.api.away = False
    world.market.fail(CloudError("strange"))
    await world.clock.advance(2 * HOUR_S)
    assert not running.done()
    assert len(world.told()) == 2
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
