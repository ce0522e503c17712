"""AWS Marketplace, for the fake and for the local AWS: an hour is metered once, whoever asks how often."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any

import pytest

from kip.cloud.base import TIMESTAMP_OUT_OF_BOUNDS, Marketplace
from kip.cloud.errors import InvalidRequest, NotAuthorized, Throttled, TokenConflict, Unreachable, from_code
from kip.cloud.fake_metering import FakeMarketplace
from kip.cloud.metering import AwsMarketplace
from kip.cloud.sdk import SdkSettings, Session
from kip.local.aws.metering import DIMENSION, PRODUCT
from kip.model.clock import SystemClock

# Each test takes hours of its own: the local AWS forgets none.
_hours = cycle(range(1, 6))


@dataclass
class Market:
    """One implementation under test."""

    sells: Marketplace
    fail: Callable[[str, str], None]
    """The next call of this action is refused with that code."""
    lose_answer: Callable[[str], None]

    async def meter(self, hour: datetime, quantity: int, token: str, **changes: str) -> None:
        given = {"product_code": PRODUCT, "dimension": DIMENSION, **changes}
        await self.sells.meter(timestamp=hour, quantity=quantity, client_token=token, **given)


@pytest.fixture
async def market(cloud: Any) -> AsyncIterator[Market]:
    """Beside each implementation of the cloud its marketplace."""
    if (url := getattr(cloud.troubles, "url", None)) is None:
        fake = FakeMarketplace(SystemClock(), product_code=PRODUCT, dimension=DIMENSION)
        yield Market(
            fake,
            lambda action, code: fake.fail(from_code(action, code, "made to fail")),
            lambda _: fake.fail(Unreachable("the answer was lost"), after=True),
        )
        return
    settings = SdkSettings(region="us-east-1", access_key_id="test", secret_access_key="test", max_attempts=1)
    async with Session(settings).metering(url) as sdk:
        yield Market(AwsMarketplace(sdk), cloud.troubles.fail, cloud.troubles.lose_answer)


@pytest.fixture
def hour() -> datetime:
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=next(_hours))


async def test_registration_may_be_repeated(market: Market) -> None:
    await market.sells.register(PRODUCT, 1)
    await market.sells.register(PRODUCT, 1)


async def test_an_hour_counts_once_even_if_the_answer_was_lost(market: Market, hour: datetime) -> None:
    market.lose_answer("MeterUsage")
    with pytest.raises(Unreachable):
        await market.meter(hour, 7, "first")
    await market.meter(hour, 7, "first")
    with pytest.raises(TokenConflict):
        await market.meter(hour, 8, "first")
    with pytest.raises(TokenConflict):
        await market.meter(hour + timedelta(minutes=1), 8, "second")


async def test_what_was_too_long_ago_or_is_yet_to_come_is_refused(market: Market) -> None:
    for hours in (-7, 1):
        with pytest.raises(InvalidRequest) as caught:
            await market.meter(datetime.now(UTC) + timedelta(hours=hours), 1, "late")
        assert caught.value.code == TIMESTAMP_OUT_OF_BOUNDS


async def test_wrong_products_and_dimensions_are_refused(market: Market, hour: datetime) -> None:
    with pytest.raises(InvalidRequest, match="InvalidProductCodeException"):
        await market.sells.register("anotherproduct", 1)
    with pytest.raises(InvalidRequest, match="InvalidProductCodeException"):
        await market.meter(hour, 1, "t", product_code="anotherproduct")
    with pytest.raises(InvalidRequest, match="InvalidUsageDimensionException"):
        await market.meter(hour, 1, "t", dimension="Users")


async def test_refusals_say_what_to_do(market: Market, hour: datetime) -> None:
    market.fail("MeterUsage", "AccessDeniedException")
    with pytest.raises(NotAuthorized) as caught:
        await market.meter(hour, 1, "t")
    assert caught.value.permission == "aws-marketplace:MeterUsage"
    market.fail("RegisterUsage", "CustomerNotEntitledException")
    with pytest.raises(NotAuthorized):
        await market.sells.register(PRODUCT, 1)
    market.fail("MeterUsage", "ThrottlingException")
    with pytest.raises(Throttled):
        await market.meter(hour, 1, "t")
