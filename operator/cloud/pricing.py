"""On-demand prices from AWS's price list (the API called pricing, GetProducts)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from kip.cloud.ratelimit import Rate, RateLimiter
from kip.cloud.sdk import PricingSdk, Session
from kip.model.clock import Clock

#: GetProducts has a quota of 10 calls a second for an account; a price list takes some 15.
CALLS = Rate(burst=2, per_second=2.0)
# The most that GetProducts gives; a product is a JSON text of 5 to 20 kB, most of it about reservations. Decoding only
# what is wanted of it takes some 20 µs.
_PRODUCTS_IN_A_PAGE = 100

# The region, which is not the account's, that is nearest (https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/price-changes.html).
_API_REGIONS = {
    "eu": "eu-central-1",
    "me": "eu-central-1",
    "af": "eu-central-1",
    "il": "eu-central-1",
    "ap": "ap-south-1",
}
_ANYWHERE_ELSE = "us-east-1"
# Partitions with credentials of their own, which that API does not know; China's has another currency besides.
_WITHOUT = ("cn-", "us-gov-", "us-iso", "eu-isoe-", "eusc-")


def api_region(region: str) -> str | None:
    """The region whose API tells the prices of `region`; None where there is none."""
    if region.startswith(_WITHOUT):
        return None
    return _API_REGIONS.get(region.partition("-")[0], _ANYWHERE_ELSE)


def price_list(session: Session, region: str, clock: Clock) -> AwsPriceList | None:
    """The prices of a region; None where nobody can be asked.

    Whoever has an EC2 endpoint of their own is not sent elsewhere: it may be a private one with no way out, or not AWS.
    """
    where = api_region(region)
    if where is None or session.elsewhere:
        return None
    return AwsPriceList(lambda: session.pricing(where), region, clock)


class AwsPriceList:
    """`kip.cloud.base.PriceList` over AWS."""

    def __init__(
        self,
        open_sdk: Callable[[], AbstractAsyncContextManager[PricingSdk]],
        region: str,
        clock: Clock,
        *,
        calls: Rate = CALLS,
    ) -> None:
        """`region` is the one whose prices are wanted."""
        self._open = open_sdk
        self._region = region
        self._calls = RateLimiter(calls, clock=clock)

    async def on_demand(self) -> dict[str, float]:
        found: dict[str, float] = {}
        token = ""
        async with self._open() as sdk:
            while True:
                await self._calls.take()
                page = await sdk.get_products(**_question(self._region, token))
                for product in page.get("PriceList") or ():
                    found.update(prices(product))
                token = page.get("NextToken") or ""
                if not token:
                    return found


def _question(region: str, token: str) -> dict[str, Any]:
    wanted = {
        "regionCode": region,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        # No SQL Server or the like in the price.
        "preInstalledSw": "NA",
        # Not of a reservation, whether used or not.
        "capacitystatus": "Used",
        "marketoption": "OnDemand",
    }
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]
    question: dict[str, Any] = {
        "ServiceCode": "AmazonEC2",
        "Filters": filters,
        "MaxResults": _PRODUCTS_IN_A_PAGE,
    }
    return {**question, "NextToken": token} if token else question


class _Attributes(msgspec.Struct):
    instanceType: str = ""  # noqa: N815 # AWS's spelling
    operation: str = ""


class _Product(msgspec.Struct):
    attributes: _Attributes


class _Dimension(msgspec.Struct):
    unit: str = ""
    pricePerUnit: Mapping[str, str] = {}  # noqa: N815


class _Term(msgspec.Struct):
    priceDimensions: Mapping[str, _Dimension] = {}  # noqa: N815


class _Terms(msgspec.Struct):
    OnDemand: Mapping[str, _Term] = {}


class _Entry(msgspec.Struct):
    product: _Product
    terms: _Terms


_DECODER = msgspec.json.Decoder(_Entry)


def prices(product: str) -> Iterator[tuple[str, float]]:
    """(instance type, US dollars an hour) of one product of the list; nothing for one that is not rented by the hour."""
    try:
        entry = _DECODER.decode(product)
    except msgspec.MsgspecError:
        return
    kind = entry.product.attributes.instanceType
    for term in entry.terms.OnDemand.values():
        for dimension in term.priceDimensions.values():
            usd = float(dimension.pricePerUnit.get("USD") or 0)
            if kind and usd > 0 and dimension.unit in ("Hrs", "Hours"):
                yield kind, usd
