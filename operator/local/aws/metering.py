"""AWS Marketplace's metering as a product meets it: moto has only what sellers of services call.

One product is sold here, with one dimension. What was taken is kept for as long as the process lives.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import uuid4

from moto.core.exceptions import JsonRESTError
from moto.meteringmarketplace import urls
from moto.meteringmarketplace.responses import MarketplaceMeteringResponse

PRODUCT = "kiplocalproduct"
DIMENSION = "CellHours"
#: MeterUsage, "Timestamp".
_OLDEST = timedelta(hours=6)


@dataclass(frozen=True)
class Metered:
    """A record that was taken."""

    id: str
    timestamp: datetime
    dimension: str
    quantity: int
    token: str

    def same_as(self, other: Metered) -> bool:
        return (self.timestamp, self.dimension, self.quantity) == (
            other.timestamp,
            other.dimension,
            other.quantity,
        )


class LocalMetering(MarketplaceMeteringResponse):
    """RegisterUsage and MeterUsage. One object serves one request."""

    records: ClassVar[list[Metered]] = []

    def register_usage(self) -> str:
        self._check_product()
        return json.dumps({"Signature": "not.signed.here"})

    def meter_usage(self) -> str:
        self._check_product()
        asked = Metered(
            id=uuid4().hex,
            timestamp=datetime.fromtimestamp(float(self._get_param("Timestamp")), UTC),
            dimension=self._get_param("UsageDimension"),
            quantity=int(self._get_param("UsageQuantity", 0)),
            token=self._get_param("ClientToken", ""),
        )
        if asked.dimension != DIMENSION:
            raise JsonRESTError("InvalidUsageDimensionException", f"no dimension {asked.dimension}")
        if not timedelta(0) <= datetime.now(UTC) - asked.timestamp <= _OLDEST:
            raise JsonRESTError("TimestampOutOfBoundsException", "The timestamp is out of allowed range.")
        return json.dumps({"MeteringRecordId": self._taken(asked).id})

    def _taken(self, asked: Metered) -> Metered:
        """The record, new or known. By its token, else by its hour, there is one."""
        for known in self.records:
            if asked.token and known.token == asked.token:
                if not known.same_as(asked):
                    raise JsonRESTError("IdempotencyConflictException", "The token was used before.")
                return known
            if _hour(known) == _hour(asked) and known.dimension == asked.dimension:
                if not known.same_as(asked):
                    raise JsonRESTError("DuplicateRequestException", "The hour was metered before.")
                return known
        self.records.append(asked)
        return asked

    def _check_product(self) -> None:
        code: Any = self._get_param("ProductCode")
        if code != PRODUCT:
            raise JsonRESTError("InvalidProductCodeException", f"no product {code}")


def _hour(record: Metered) -> datetime:
    return record.timestamp.replace(minute=0, second=0, microsecond=0)


def install() -> None:
    """Put our class where moto looks for its own."""
    urls.url_paths["{0}/$"] = LocalMetering.dispatch
