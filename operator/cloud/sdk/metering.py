"""The calls of AWS Marketplace's metering service."""

from __future__ import annotations

from typing import Any

from kip.cloud.sdk.service import Answer, ServiceClient


class MeteringSdk(ServiceClient):
    """AWS Marketplace's metering service. Create it with `Session.metering`."""

    async def register_usage(self, **params: Any) -> Answer:
        return await self._call("RegisterUsage", self._client.register_usage(**params))

    async def meter_usage(self, **params: Any) -> Answer:
        return await self._call("MeterUsage", self._client.meter_usage(**params))
