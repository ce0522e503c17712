"""Where the clients of the services come from, with what they share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import aioboto3
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.utils import parse_timestamp

from kip.cloud.errors import NotAuthorized
from kip.cloud.sdk.account import AccountSdk
from kip.cloud.sdk.border import border
from kip.cloud.sdk.ec2 import Ec2Sdk
from kip.cloud.sdk.ecr import EcrSdk
from kip.cloud.sdk.efs import EfsSdk
from kip.cloud.sdk.metering import MeteringSdk
from kip.cloud.sdk.pricing import PricingSdk
from kip.cloud.sdk.service import Observe, unobserved


@dataclass(frozen=True, slots=True, kw_only=True)
class SdkSettings:
    """How AWS is reached. Times in seconds."""

    region: str
    endpoint_url: str | None = None
    """None for AWS's own endpoint of the region."""
    access_key_id: str | None = None
    """Without keys the SDK's default chain is used: environment, web identity (IRSA), pod identity, instance role."""
    secret_access_key: str | None = None
    verify_tls: bool = True
    """False accepts any certificate from `endpoint_url`."""
    connect_timeout: float = 5.0
    read_timeout: float = 20.0
    max_attempts: int = 3
    """First try included. botocore's "standard" mode repeats throttled and transient failures with backoff; calls
    that start something are safe to repeat, because they carry a client token."""


class Session:
    """What clients of one process share. The first one costs 0.25 s and some 20 MB, each further one 5 ms and 1 MB."""

    def __init__(self, settings: SdkSettings, *, observe: Observe = unobserved) -> None:
        self._settings = settings
        self._observe = observe
        base = get_session()
        base.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)
        self._session = aioboto3.Session(
            botocore_session=base,
            aws_access_key_id=settings.access_key_id,
            aws_secret_access_key=settings.secret_access_key,
            region_name=settings.region,
        )

    @property
    def elsewhere(self) -> bool:
        """EC2 is not at AWS's own endpoint."""
        return self._settings.endpoint_url is not None

    @asynccontextmanager
    async def ec2(self) -> AsyncIterator[Ec2Sdk]:
        """One client for the life of the process: using it costs nothing.

        Raises:
            NotAuthorized, InvalidRequest: no client can be made from the settings.
        """
        settings = self._settings
        where = {"endpoint_url": settings.endpoint_url, "verify": settings.verify_tls}
        async with self._client("ec2", **where) as client:
            yield Ec2Sdk(client, self._observe)

    @asynccontextmanager
    async def efs(self) -> AsyncIterator[EfsSdk]:
        """A client of EFS. Raises as `ec2`.

        Where `SdkSettings.endpoint_url` is a private endpoint of EC2 in AWS, it has no EFS behind it: then this is AWS's
        own for the region, or what AWS_ENDPOINT_URL_EFS says. An endpoint that is not AWS's stands for all of AWS.
        """
        async with self._client("efs", **self._beside_ec2()) as client:
            yield EfsSdk(client, self._observe)

    @asynccontextmanager
    async def pricing(self, region: str) -> AsyncIterator[PricingSdk]:
        """A client of the price list in one of the few regions that have it (`kip.cloud.pricing.api_region`).

        `SdkSettings.endpoint_url` is EC2's, not this one's. Raises as `ec2`.
        """
        async with self._client("pricing", region_name=region) as client:
            yield PricingSdk(client, self._observe)

    @asynccontextmanager
    async def metering(self, endpoint_url: str | None) -> AsyncIterator[MeteringSdk]:
        """A client of the metering service, in the pod's own region as it has to be. Raises as `ec2`."""
        where = {"endpoint_url": endpoint_url, "verify": self._settings.verify_tls}
        async with self._client("meteringmarketplace", **where) as client:
            yield MeteringSdk(client, self._observe)

    def account(self) -> AccountSdk:
        """STS, IAM and Service Quotas, each where `efs` would look for it; their calls also raise as `ec2`."""
        return AccountSdk(lambda service: self._client(service, **self._beside_ec2()), self._observe)

    def _beside_ec2(self) -> dict[str, Any]:
        """Where the services are that a private endpoint of EC2 does not stand for."""
        settings = self._settings
        if settings.endpoint_url and not _of_aws(settings.endpoint_url):
            return {"endpoint_url": settings.endpoint_url, "verify": settings.verify_tls}
        return {}

    async def credentials(self) -> str:
        """Where the credentials are from, in botocore's words, like `assume-role-with-web-identity`.

        Raises:
            NotAuthorized: there are none.
            Unreachable: whoever gives them does not answer.
        """
        with border(""):
            found = await self._session.get_credentials()
        if found is None:
            raise NotAuthorized("no AWS credentials", code="NoCredentials")
        return str(found.method)

    @asynccontextmanager
    async def ecr(self, region: str) -> AsyncIterator[EcrSdk]:
        """A client of the registries in one region, where `efs` would look for it. Raises as `ec2`."""
        async with self._client("ecr", region_name=region, **self._beside_ec2()) as client:
            yield EcrSdk(client, self._observe)

    @asynccontextmanager
    async def _client(self, service: str, **parameters: Any) -> AsyncIterator[Any]:
        settings = self._settings
        config = AioConfig(
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            retries={"mode": "standard", "total_max_attempts": settings.max_attempts},
            max_pool_connections=50,
            tcp_keepalive=True,
        )
        async with AsyncExitStack() as stack:
            with border(""):
                client = self._session.client(service, config=config, **parameters)
                client = await stack.enter_async_context(client)
            yield client


@asynccontextmanager
async def open_ec2(settings: SdkSettings, *, observe: Observe = unobserved) -> AsyncIterator[Ec2Sdk]:
    """EC2 alone, in a session of its own; see `Session`."""
    async with Session(settings, observe=observe).ec2() as ec2:
        yield ec2


def _timestamp(value: Any) -> datetime:
    """botocore's own (dateutil) takes a tenth of a millisecond: a third of the time that a thousand instances take."""
    if isinstance(value, str):
        with suppress(ValueError):
            return datetime.fromisoformat(value)
    parsed: datetime = parse_timestamp(value)
    return parsed


def _of_aws(url: str) -> bool:
    return (urlsplit(url).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))
