"""Service rules in versions: who has the one before gets the change, everybody else the whole."""

from __future__ import annotations

import asyncio

import pytest

from kip.cells.services import ServiceRules
from kip.model.clock import ManualClock, settle


def service(name: str, ip: str, protocol: str = "TCP") -> dict:
    return {
        "metadata": {"namespace": "shop", "name": name},
        "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": [{"port": 80, "protocol": protocol}]},
    }


def endpoints(name: str, *addresses: str, protocol: str = "TCP") -> dict:
    return {
        "metadata": {"namespace": "shop", "name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [a], "conditions": {"ready": True}} for a in addresses],
        "ports": [{"name": "", "port": 8080, "protocol": protocol}],
    }


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.services = [service("web", "10.96.0.9")]
        self.slices = [endpoints("web", "10.0.0.4")]
        self.rules = ServiceRules(lambda: self.services, lambda: self.slices, self.clock)
        self.brought = 0

    async def bring(self) -> None:
        self.brought += 1


@pytest.fixture
async def world():
    world = World()
    running = asyncio.create_task(world.rules.run(world.bring))
    yield world
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def change(world: World, *addresses: str, protocol: str = "TCP") -> None:
    world.slices = [endpoints("web", *addresses, protocol=protocol)]
    world.rules.changed()
    await world.clock.advance(1)
    await settle()


async def test_a_new_cell_gets_the_whole_and_then_nothing(world):
    first = world.rules.supply(None)
    assert "delete table" in first.text
    assert "10.0.0.4" in first.text
    assert world.rules.supply(first.version) is None


async def test_a_cell_with_the_version_before_gets_only_the_change(world):
    first = world.rules.supply(None)
    await change(world, "10.0.0.4", "10.0.0.5")
    second = world.rules.supply(first.version)
    assert world.brought == 1
    assert second.version == first.version + 1
    assert "10.0.0.5" in second.text
    assert "delete table" not in second.text


async def test_a_cell_that_missed_one_gets_the_whole_again(world):
    first = world.rules.supply(None)
    await change(world, "10.0.0.5")
    await change(world, "10.0.0.6")
    supply = world.rules.supply(first.version)
    assert "delete table" in supply.text
    assert "10.0.0.6" in supply.text


async def test_a_cell_that_connects_while_a_change_is_gathered_does_not_hide_it_from_the_others(world):
    first = world.rules.supply(None)
    world.slices = [endpoints("web", "10.0.0.7")]
    world.rules.changed()
    await settle()
    newcomer = world.rules.supply(None)
    assert newcomer.version == first.version
    await world.clock.advance(1)
    await settle()
    assert world.brought == 1
    assert "10.0.0.7" in world.rules.supply(first.version).text


async def test_news_that_change_nothing_are_brought_to_nobody(world):
    world.rules.supply(None)
    await change(world, "10.0.0.4")
    assert world.brought == 0


async def udp_world(world: World) -> None:
    world.services = [service("web", "10.96.0.9", "UDP")]
    await change(world, "10.0.0.1", protocol="UDP")


async def test_of_a_cell_whose_rules_nobody_knows_all_udp_flows_are_ended(world):
    await udp_world(world)
    assert world.rules.supply(None).stale_flows is None
    assert world.rules.supply(-5).stale_flows is None


async def test_a_cell_that_lags_behind_has_all_flows_ended_that_went_stale_meanwhile(world):
    await udp_world(world)
    has = world.rules.supply(None).version
    for address in ("10.0.0.2", "10.0.0.3", "10.0.0.3"):
        await change(world, address, protocol="UDP")
    supply = world.rules.supply(has)
    assert "delete table" in supply.text
    assert supply.stale_flows == (("10.96.0.9", 80, "10.0.0.1"), ("10.96.0.9", 80, "10.0.0.2"))
    assert world.rules.supply(has + 1).stale_flows == (("10.96.0.9", 80, "10.0.0.2"),)


async def test_a_cell_that_lags_too_far_behind_has_all_flows_ended(world):
    await udp_world(world)
    has = world.rules.supply(None).version
    for number in range(65):
        await change(world, f"10.0.1.{number}", protocol="UDP")
    assert world.rules.supply(has).stale_flows is None
    assert len(world.rules.supply(has + 1).stale_flows) == 64
