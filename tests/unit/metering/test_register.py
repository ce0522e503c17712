"""A process is registered once AWS answers, however long that takes."""

from __future__ import annotations

import asyncio

from kip.cloud.errors import NotAuthorized, Unreachable
from kip.cloud.fake_metering import FakeMarketplace
from kip.metering.register import register
from kip.model.clock import ManualClock


async def test_it_tries_until_aws_answers() -> None:
    clock = ManualClock()
    market = FakeMarketplace(clock, product_code="code", dimension="d")
    market.fail(Unreachable("no route"))
    market.fail(Unreachable("no route"))
    trying = asyncio.create_task(register(market, clock, product_code="code", public_key_version=1))
    await clock.advance(5)
    assert not trying.done()
    await clock.advance(10)
    await asyncio.wait_for(trying, 1)
    assert market.registered == 1


async def test_who_has_not_subscribed_is_asked_for_rarely_and_nothing_else_happens() -> None:
    clock = ManualClock()
    market = FakeMarketplace(clock, product_code="code", dimension="d")
    market.fail(NotAuthorized("no", action="RegisterUsage", code="CustomerNotEntitledException"))
    trying = asyncio.create_task(register(market, clock, product_code="code", public_key_version=1))
    await clock.advance(3599)
    assert not trying.done()
    await clock.advance(1)
    await asyncio.wait_for(trying, 1)
    assert market.registered == 1
