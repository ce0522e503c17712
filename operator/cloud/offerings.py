"""What EC2 says of its instance types, of what each zone has, and of spot prices.

These are large answers that nobody waits for. They come in pages small enough to be parsed between other work (each
holds the event loop for some 10 ms), and the pages are paced.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime

import structlog

from kip.cloud import shapes
from kip.cloud.ratelimit import Rate, RateLimiter
from kip.cloud.sdk import Answer, Ec2Sdk
from kip.model.clock import Clock
from kip.model.giveway import GiveWay, at_once
from kip.model.instance_type import InstanceType

log = structlog.get_logger(__name__)

#: A tenth of what EC2 admits of calls that change nothing, so that the account's others do not notice
#: (https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html: 100, and 20 more a second, for each action).
CALLS = Rate(burst=10, per_second=2.0)

# Measured: a type takes 0.4 ms to parse, a spot price 0.12 ms because of its timestamp, an offering 0.02 ms. EC2's own
# limits are 100 types and 1000 of the others.
TYPES_IN_A_PAGE = 25
OFFERINGS_IN_A_PAGE = 500
PRICES_IN_A_PAGE = 100

# In a VPC, which all are today, and without one: EC2 lists them as two, mostly with the same price.
_LINUX = ["Linux/UNIX", "Linux/UNIX (Amazon VPC)"]

Page = Callable[..., Awaitable[Answer]]


class Ec2Offerings:
    """`kip.cloud.base.Offerings` over EC2."""

    def __init__(
        self,
        sdk: Ec2Sdk,
        clock: Clock,
        *,
        calls: Rate = CALLS,
        give_way: GiveWay = at_once,
    ) -> None:
        """`give_way` returns when there is time for a page, whose reading keeps the event loop for a tenth of a second."""
        self._sdk = sdk
        self._give_way = give_way
        self._clock = clock
        self._calls = RateLimiter(calls, clock=clock)

    async def types(self) -> tuple[InstanceType, ...]:
        found: list[InstanceType] = []
        async for entry in self._all(
            self._sdk.describe_instance_types, "InstanceTypes", MaxResults=TYPES_IN_A_PAGE
        ):
            try:
                found.append(shapes.from_description(entry))
            except (KeyError, StopIteration) as error:
                # EC2 may invent a processor; all other types can be had as before.
                log.warning("instance type not understood", type=entry.get("InstanceType"), error=repr(error))
        return tuple(sorted(found, key=lambda kind: kind.name))

    async def offered(self) -> dict[str, frozenset[str]]:
        found: dict[str, set[str]] = {}
        async for entry in self._all(
            self._sdk.describe_instance_type_offerings,
            "InstanceTypeOfferings",
            LocationType="availability-zone",
            MaxResults=OFFERINGS_IN_A_PAGE,
        ):
            found.setdefault(entry["Location"], set()).add(entry["InstanceType"])
        return {zone: frozenset(types) for zone, types in found.items()}

    async def spot_prices(self) -> dict[tuple[str, str], float]:
        """The latest of each, whatever the order in which they come."""
        now = self._clock.now()
        latest: dict[tuple[str, str], tuple[datetime, float]] = {}
        async for entry in self._all(
            self._sdk.describe_spot_price_history,
            "SpotPriceHistory",
            ProductDescriptions=_LINUX,
            # From now to now is what holds now; without times it would be the changes of 90 days.
            StartTime=now,
            EndTime=now,
            MaxResults=PRICES_IN_A_PAGE,
        ):
            offer = entry["InstanceType"], entry["AvailabilityZone"]
            price = entry["Timestamp"], float(entry["SpotPrice"])
            latest[offer] = max(latest.get(offer, price), price)
        return {offer: usd for offer, (_, usd) in latest.items() if usd > 0}

    async def _all(self, call: Page, key: str, **parameters: object) -> AsyncIterator[Answer]:
        token = ""
        while True:
            await self._give_way()
            await self._calls.take()
            page = await call(**parameters, **({"NextToken": token} if token else {}))
            for entry in page.get(key) or ():
                yield entry
            # Both are how EC2 says that there is no more.
            token = page.get("NextToken") or ""
            if not token:
                return
