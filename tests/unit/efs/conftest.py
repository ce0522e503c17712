"""A cloud in memory whose time passes while somebody waits."""

from __future__ import annotations

from typing import Any

import pytest

from kip.cloud.fake_efs import FakeEfs
from kip.efs.look import Places, Where, look, subnets, vpc_of
from kip.efs.plan import Found, Plan, Wanted, plan
from kip.efs.removal import Removal, removal
from kip.efs.setup import Setup
from kip.efs.teardown import Teardown
from kip.efs.waiting import Outcome
from kip.model.clock import ManualClock

CLUSTER = "blue"


class World:
    """One cluster's place in AWS."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.cloud = FakeEfs(clock=self.clock)
        self.places = Places(self.cloud, self.cloud, self.cloud, self.cloud, self.clock)
        self.told: list[str] = []

    async def wanted(self, where: Where | None = None, **changes: Any) -> Wanted:
        place = where or Where(vpc_id=self.cloud.vpc_id)
        found = await subnets(self.cloud, place)
        return Wanted(cluster=CLUSTER, vpc_id=vpc_of(found, place), subnets=found, **changes)

    async def look(self) -> Found:
        return await look(self.places, CLUSTER)

    async def plan(self, **changes: Any) -> Plan:
        return plan(await self.look(), await self.wanted(**changes))

    async def set_up(self, *, timeout_s: float = 300, **changes: Any) -> Outcome:
        wanted = await self.wanted(**changes)
        todo = plan(await self.look(), wanted)
        assert not todo.refusals
        return await self.clock.finish(
            Setup(self.places, wanted, tell=self.told.append, timeout_s=timeout_s).run(todo)
        )

    async def removal(self) -> Removal:
        return removal(await self.look(), CLUSTER)

    async def take_down(self, *, timeout_s: float = 300) -> Outcome:
        todo = await self.removal()
        return await self.clock.finish(
            Teardown(self.places, tell=self.told.append, timeout_s=timeout_s).run(todo)
        )

    async def system_id(self) -> str:
        (system,) = await self.cloud.file_systems()
        return system.id


@pytest.fixture
def world() -> World:
    return World()
