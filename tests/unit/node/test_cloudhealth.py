"""Whether AWS can be used, judged without haste."""

from __future__ import annotations

import asyncio

import pytest

from kip.cloud.errors import NotAuthorized, Unreachable
from kip.cloud.fake import FakeCloud
from kip.model.clock import ManualClock, settle
from kip.node import cloudhealth
from kip.node.cloudhealth import CloudHealth


@pytest.fixture
async def watched():
    clock = ManualClock()
    cloud, changes = FakeCloud(clock=clock), []
    health = CloudHealth(cloud, clock, changed=lambda: changes.append(health.health.ready))
    task = asyncio.create_task(health.run())
    await settle()
    yield clock, cloud, health, changes
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_lost_packet_changes_nothing(watched):
    clock, cloud, health, changes = watched
    cloud.fail("DescribeAvailabilityZones", Unreachable("timed out"), times=2)
    await clock.advance(60)
    assert health.health.ready
    assert changes == []


async def test_three_failures_in_a_row_are_told_with_their_reason_and_the_return_at_once(watched):
    clock, cloud, health, changes = watched
    cloud.fail("DescribeAvailabilityZones", NotAuthorized("no", action="DescribeAvailabilityZones"), times=5)
    await clock.advance(27)
    assert not health.health.ready
    assert health.health.reason == "NotAuthorized"
    assert "ec2:DescribeAvailabilityZones" in health.health.message
    await clock.advance(12)
    assert health.health.ready
    assert changes == [False, True]


async def test_it_asks_rarely_while_all_is_well(watched):
    clock, cloud, _, _ = watched
    await clock.advance(600)
    assert len(cloud.called("DescribeAvailabilityZones")) <= 31


async def test_no_answer_at_all_is_a_failure_within_seconds(monkeypatch):
    class Silent:
        async def ping(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(cloudhealth, "_PATIENCE_S", 0.01)
    health = CloudHealth(Silent(), ManualClock(), changed=lambda: None)
    for _ in range(3):
        await asyncio.wait_for(health.ask(), 5)
    assert health.health.reason == "CloudUnreachable"
    assert "no answer within" in health.health.message
