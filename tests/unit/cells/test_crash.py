"""The process dies at any of its calls, and another one takes over: in the end it is as if nothing had happened.

One instance for each pod, none left over, no pod disturbed. A crash right after a call's effect is the same to all
who live on as one right before the next call, so each scenario has one more way to end than it has calls.
"""

from __future__ import annotations

import pytest
from cellworld.process import Crash
from cellworld.scenarios import SCENARIOS
from cellworld.world import World, world_over

from kip.kube.fake import FakeApi
from kip.model.clock import ManualClock


async def told(scenario, crash: Crash | None = None) -> World:
    clock = ManualClock()
    async with world_over(FakeApi(clock=clock), clock, node="kip-provider-0", namespace="shop") as world:
        world.begin(crash)
        await scenario(world)
        # What a sweep finds late is found now.
        await world.let_pass(25)
        assert await world.one_instance_each(), await world.told()
        world.assert_sound()
        return world


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
async def test_a_crash_at_any_call(scenario):
    calm = await told(scenario)
    assert len(calm.processes) == 1
    calls = calm.processes[0].mortal.steps
    for crash in (Crash(0, after=False), *(Crash(step, after=True) for step in range(len(calls)))):
        try:
            world = await told(scenario, crash)
        except AssertionError as error:
            raise AssertionError(f"{crash} ({calls[crash.step]}): {error}") from error
        assert world.processes[0].mortal.crashed
        launched, expected = len(world.cloud.all()), len(calm.cloud.all())
        assert launched <= expected, f"{crash} ({calls[crash.step]}): {launched} instances, not {expected}"
