"""AWS Marketplace in memory, as strict as the real one."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta

from kip.cloud.base import TIMESTAMP_OUT_OF_BOUNDS
from kip.cloud.errors import CloudError, InvalidRequest, NotAuthorized, TokenConflict, from_code
from kip.model.clock import Clock

_OLDEST = timedelta(hours=6)


@dataclass(frozen=True)
class Metered:
    """A record that was taken."""

    timestamp: datetime
    dimension: str
    quantity: int
    token: str


class FakeMarketplace:
    """One product, with one dimension; one pod asks."""

    def __init__(self, clock: Clock, *, product_code: str, dimension: str) -> None:
        self._clock = clock
        self._product_code = product_code
        self._dimension = dimension
        self.subscribed = True
        self.registered = 0
        """How often somebody registered."""
        self.records: list[Metered] = []
        self._faults: deque[tuple[CloudError, bool]] = deque()

    def fail(self, error: CloudError, *, after: bool = False) -> None:
        """The next call ends with it; `after` it took effect."""
        self._faults.append((error, after))

    async def register(self, product_code: str, public_key_version: int) -> None:
        later = await self._enter()
        self._check("RegisterUsage", product_code)
        if not self.subscribed:
            raise NotAuthorized(
                "no subscription", action="RegisterUsage", code="CustomerNotEntitledException"
            )
        self.registered += 1
        _raise(later)

    async def meter(
        self, product_code: str, dimension: str, timestamp: datetime, quantity: int, client_token: str
    ) -> None:
        later = await self._enter()
        self._check("MeterUsage", product_code)
        if dimension != self._dimension:
            raise from_code("MeterUsage", "InvalidUsageDimensionException", f"no dimension {dimension}")
        if not timedelta(0) <= self._clock.now() - timestamp <= _OLDEST:
            raise InvalidRequest("out of range", action="MeterUsage", code=TIMESTAMP_OUT_OF_BOUNDS)
        self._take(Metered(timestamp, dimension, quantity, client_token))
        _raise(later)

    def _take(self, record: Metered) -> None:
        hour = record.timestamp.replace(minute=0, second=0, microsecond=0)
        for before in self.records:
            if before == record:
                return
            if before.token == record.token:
                raise TokenConflict("other values", action="MeterUsage", code="IdempotencyConflictException")
            if before.timestamp.replace(minute=0, second=0, microsecond=0) == hour:
                raise TokenConflict("told already", action="MeterUsage", code="DuplicateRequestException")
        self.records.append(record)

    async def _enter(self) -> CloudError | None:
        await asyncio.sleep(0)
        if not self._faults:
            return None
        error, after = self._faults.popleft()
        if not after:
            raise error
        return error

    def _check(self, action: str, product_code: str) -> None:
        if product_code != self._product_code:
            raise from_code(action, "InvalidProductCodeException", f"no product {product_code}")


def _raise(error: CloudError | None) -> None:
    if error is not None:
        raise error
