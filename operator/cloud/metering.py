"""AWS Marketplace's metering."""

from __future__ import annotations

from datetime import datetime

from kip.cloud.sdk import MeteringSdk


class AwsMarketplace:
    """`kip.cloud.base.Marketplace` over AWS."""

    def __init__(self, sdk: MeteringSdk) -> None:
        self._sdk = sdk

    async def register(self, product_code: str, public_key_version: int) -> None:
        await self._sdk.register_usage(ProductCode=product_code, PublicKeyVersion=public_key_version)

    async def meter(
        self, product_code: str, dimension: str, timestamp: datetime, quantity: int, client_token: str
    ) -> None:
        await self._sdk.meter_usage(
            ProductCode=product_code,
            Timestamp=timestamp,
            UsageDimension=dimension,
            UsageQuantity=quantity,
            ClientToken=client_token,
        )
