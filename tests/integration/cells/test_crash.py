"""As in the unit tests, on a real API server: a process dies at one of its calls, another one takes over."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from cellworld import scenarios
from cellworld.process import Crash
from cellworld.world import World, world_over

from kip.model.clock import ManualClock

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

NODE = "kip-provider-3"
# Every crash point of every scenario is tried in memory (tests/unit/cells/test_crash.py, with an API server that is held
# against this one). Here are some of each.
POINTS = 4


async def told(cluster: Any, scenario: scenarios.Scenario, crash: Crash | None = None) -> World:
    await cluster.clean()
    clock = ManualClock(datetime.now(UTC))
    options = {"operator": cluster.operator, "real_tick_s": 0.02}
    async with world_over(cluster.admin, clock, node=NODE, namespace=cluster.namespace, **options) as world:
        world.begin(crash)
        await scenario(world)
        await world.let_pass(25)
        assert await world.one_instance_each(), await world.told()
        world.assert_sound()
        return world


@pytest.mark.parametrize(
    "scenario",
    [scenarios.come_and_go, scenarios.a_job, scenarios.the_answer_is_lost, scenarios.replaced_under_its_name],
    ids=lambda s: s.__name__,
)
async def test_a_crash_at_some_calls(cluster, scenario):
    calm = await told(cluster, scenario)
    calls = calm.processes[0].mortal.steps
    for step in range(0, len(calls), max(1, len(calls) // POINTS)):
        crash = Crash(step, after=True)
        try:
            world = await told(cluster, scenario, crash)
        except AssertionError as error:
            raise AssertionError(f"{crash} ({calls[crash.step]}): {error}") from error
        launched, expected = len(world.cloud.all()), len(calm.cloud.all())
        assert launched <= expected, f"{crash} ({calls[crash.step]}): {launched} instances, not {expected}"
