"""The calls of AWS's price list."""

from __future__ import annotations

from typing import Any

from kip.cloud.sdk.service import Answer, ServiceClient


class PricingSdk(ServiceClient):
    """AWS's price list. Create it with `Session.pricing`."""

    async def get_products(self, **page: Any) -> Answer:
        return await self._call("GetProducts", self._client.get_products(**page))
