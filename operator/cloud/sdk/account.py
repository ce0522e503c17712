"""The calls of STS, IAM and Service Quotas."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from kip.cloud.sdk.service import Answer, Observe, ServiceClient, unobserved


class AccountSdk(ServiceClient):
    """Who asks, and what the account may have and has: each call goes to another service, none changes anything."""

    def __init__(
        self,
        open_client: Callable[[str], AbstractAsyncContextManager[Any]],
        observe: Observe = unobserved,
    ) -> None:
        """`open_client` makes a service's client."""
        super().__init__(None, observe)
        self._open = open_client

    async def get_caller_identity(self) -> Answer:
        async with self._open("sts") as client:
            return await self._call("GetCallerIdentity", client.get_caller_identity())

    async def get_service_quota(self, service: str, quota: str) -> Answer:
        async with self._open("service-quotas") as client:
            asked = client.get_service_quota(ServiceCode=service, QuotaCode=quota)
            return await self._call("GetServiceQuota", asked)

    async def get_instance_profile(self, name: str) -> Answer:
        async with self._open("iam") as client:
            return await self._call(
                "GetInstanceProfile", client.get_instance_profile(InstanceProfileName=name)
            )
