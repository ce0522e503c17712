"""The exact AWS calls the operator makes, and the only file that knows which SDK makes them.

Answers are AWS's own dictionaries; errors are those of `kip.cloud.errors`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import aioboto3
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore import exceptions as aws
from botocore.parsers import ResponseParserError
from botocore.utils import parse_timestamp

from kip.cloud.errors import CloudError, InvalidRequest, NotAuthorized, Unreachable, from_code

Answer = dict[str, Any]
Observe = Callable[[str, str, str, float], None]
"""Hears of every call: the AWS action; `ok`, `cancelled` or the error's reason; AWS's error code, if any; seconds."""


def unobserved(action: str, result: str, code: str, seconds: float) -> None:
    """For calls that nobody counts."""


#: Instances are parsed where everything else runs: a page of 1000, EC2's largest, holds the event loop for 0.8 s, and
#: with it every stream and the Lease.
PAGE_SIZE = 200
#: DescribeRouteTables refuses larger ones.
ROUTE_TABLES_PAGE = 100
#: EFS's largest (DescribeFileSystems, "MaxItems").
EFS_PAGE_SIZE = 100


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


class _Sdk:
    """One service's client, and who hears of its calls."""

    def __init__(self, client: Any, observe: Observe = unobserved) -> None:
        self._client = client
        self._observe = observe

    async def _call(self, action: str, call: Awaitable[Answer]) -> Answer:
        with self._observed(action), _border(action):
            return await call

    @contextmanager
    def _observed(self, action: str) -> Iterator[None]:
        """Tell how the call ended and how long it took, its repetitions by botocore included."""
        # What is neither an answer nor an error was cut off: by a time-out around it, or by the end of the process.
        began, result, code = time.monotonic(), "cancelled", ""
        try:
            yield
            result = "ok"
        except CloudError as error:
            result, code = error.reason, error.code
            raise
        finally:
            self._observe(action, result, code, time.monotonic() - began)

    async def _paged(
        self, action: str, operation: str, key: str, page_size: int, **params: Any
    ) -> list[Answer]:
        """What all pages of an answer have below `key`."""
        pages = self._client.get_paginator(operation).paginate(
            **params, PaginationConfig={"PageSize": page_size}
        )
        with self._observed(action), _border(action):
            return [item async for page in pages for item in page[key]]


class Ec2Sdk(_Sdk):
    """EC2's API. Create it with `open_ec2`."""

    def __init__(
        self,
        client: Any,
        observe: Observe = unobserved,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        """`may_write` is false once what is done here may be another process's to do."""
        super().__init__(client, observe)
        self._may_write = may_write

    def fenced(self, may_write: Callable[[], bool]) -> Ec2Sdk:
        """The same connections, for those who act in the name of a virtual node.

        Who may write is asked right before a call is sent: until then it may have waited for its batch and its turn, and
        the process may have been paused for a minute.
        """
        return Ec2Sdk(self._client, self._observe, may_write)

    @property
    def endpoint_url(self) -> str:
        """Where the calls go."""
        return str(self._client.meta.endpoint_url)

    async def run_instances(self, **params: Any) -> Answer:
        self._check("RunInstances")
        return await self._call("RunInstances", self._client.run_instances(**params))

    # `more`, here and below, are further parameters, like DryRun.

    async def terminate_instances(self, instance_ids: list[str], **more: Any) -> Answer:
        self._check("TerminateInstances")
        return await self._call(
            "TerminateInstances", self._client.terminate_instances(InstanceIds=instance_ids, **more)
        )

    async def create_tags(self, resource_ids: list[str], tags: list[Answer], **more: Any) -> Answer:
        self._check("CreateTags")
        call = self._client.create_tags(Resources=resource_ids, Tags=tags, **more)
        return await self._call("CreateTags", call)

    async def describe_instances(self, filters: list[Answer]) -> list[Answer]:
        reservations = await self._all_pages(
            "DescribeInstances", "describe_instances", "Reservations", filters
        )
        return [instance for reservation in reservations for instance in reservation["Instances"]]

    async def describe_images(self, **params: Any) -> list[Answer]:
        answer = await self._call("DescribeImages", self._client.describe_images(**params))
        images: list[Answer] = answer["Images"]
        return images

    async def describe_subnets(self, filters: list[Answer]) -> list[Answer]:
        return await self._all_pages("DescribeSubnets", "describe_subnets", "Subnets", filters)

    async def describe_vpcs(self, filters: list[Answer]) -> list[Answer]:
        return await self._all_pages("DescribeVpcs", "describe_vpcs", "Vpcs", filters)

    async def describe_security_groups(self, filters: list[Answer]) -> list[Answer]:
        return await self._all_pages(
            "DescribeSecurityGroups", "describe_security_groups", "SecurityGroups", filters
        )

    async def create_security_group(self, **params: Any) -> Answer:
        self._check("CreateSecurityGroup")
        return await self._call("CreateSecurityGroup", self._client.create_security_group(**params))

    async def authorize_security_group_ingress(self, **params: Any) -> Answer:
        self._check("AuthorizeSecurityGroupIngress")
        return await self._call(
            "AuthorizeSecurityGroupIngress", self._client.authorize_security_group_ingress(**params)
        )

    async def revoke_security_group_ingress(self, **params: Any) -> Answer:
        self._check("RevokeSecurityGroupIngress")
        return await self._call(
            "RevokeSecurityGroupIngress", self._client.revoke_security_group_ingress(**params)
        )

    async def delete_security_group(self, group_id: str, **more: Any) -> Answer:
        self._check("DeleteSecurityGroup")
        call = self._client.delete_security_group(GroupId=group_id, **more)
        return await self._call("DeleteSecurityGroup", call)

    async def describe_route_tables(self, filters: list[Answer]) -> list[Answer]:
        return await self._all_pages(
            "DescribeRouteTables", "describe_route_tables", "RouteTables", filters, ROUTE_TABLES_PAGE
        )

    async def create_route(self, **params: Any) -> Answer:
        self._check("CreateRoute")
        return await self._call("CreateRoute", self._client.create_route(**params))

    async def delete_route(self, **params: Any) -> Answer:
        self._check("DeleteRoute")
        return await self._call("DeleteRoute", self._client.delete_route(**params))

    async def modify_instance_attribute(self, **params: Any) -> Answer:
        self._check("ModifyInstanceAttribute")
        return await self._call("ModifyInstanceAttribute", self._client.modify_instance_attribute(**params))

    async def describe_availability_zones(self) -> Answer:
        return await self._call("DescribeAvailabilityZones", self._client.describe_availability_zones())

    # One page each: whoever asks paces the pages, and other work is done between them.

    async def describe_instance_types(self, **page: Any) -> Answer:
        return await self._call("DescribeInstanceTypes", self._client.describe_instance_types(**page))

    async def describe_instance_type_offerings(self, **page: Any) -> Answer:
        return await self._call(
            "DescribeInstanceTypeOfferings", self._client.describe_instance_type_offerings(**page)
        )

    async def describe_spot_price_history(self, **page: Any) -> Answer:
        return await self._call("DescribeSpotPriceHistory", self._client.describe_spot_price_history(**page))

    def _check(self, action: str) -> None:
        """Raises Unreachable, as for any call without an answer: what was meant stays for whoever holds the node."""
        if not self._may_write():
            raise Unreachable("not sent: this process does not hold the node's Lease now", action=action)

    async def _all_pages(
        self, action: str, operation: str, key: str, filters: list[Answer], page_size: int = PAGE_SIZE
    ) -> list[Answer]:
        return await self._paged(action, operation, key, page_size, Filters=filters)


class PricingSdk(_Sdk):
    """AWS's price list. Create it with `Session.pricing`."""

    async def get_products(self, **page: Any) -> Answer:
        return await self._call("GetProducts", self._client.get_products(**page))


class AccountSdk(_Sdk):
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


class EcrSdk(_Sdk):
    """The registry of one region. Create it with `Session.ecr`."""

    async def get_authorization_token(self) -> Answer:
        return await self._call("GetAuthorizationToken", self._client.get_authorization_token())


class EfsSdk(_Sdk):
    """EFS's API. Create it with `Session.efs`."""

    async def create_file_system(self, **params: Any) -> Answer:
        return await self._call("CreateFileSystem", self._client.create_file_system(**params))

    async def describe_file_systems(self) -> list[Answer]:
        return await self._paged("DescribeFileSystems", "describe_file_systems", "FileSystems", EFS_PAGE_SIZE)

    async def delete_file_system(self, file_system_id: str) -> Answer:
        return await self._call(
            "DeleteFileSystem", self._client.delete_file_system(FileSystemId=file_system_id)
        )

    async def describe_lifecycle_configuration(self, file_system_id: str) -> Answer:
        return await self._call(
            "DescribeLifecycleConfiguration",
            self._client.describe_lifecycle_configuration(FileSystemId=file_system_id),
        )

    async def put_lifecycle_configuration(self, **params: Any) -> Answer:
        return await self._call(
            "PutLifecycleConfiguration", self._client.put_lifecycle_configuration(**params)
        )

    async def create_mount_target(self, **params: Any) -> Answer:
        return await self._call("CreateMountTarget", self._client.create_mount_target(**params))

    async def describe_mount_targets(self, file_system_id: str) -> list[Answer]:
        return await self._paged(
            "DescribeMountTargets",
            "describe_mount_targets",
            "MountTargets",
            EFS_PAGE_SIZE,
            FileSystemId=file_system_id,
        )

    async def describe_mount_target_security_groups(self, mount_target_id: str) -> list[str]:
        answer = await self._call(
            "DescribeMountTargetSecurityGroups",
            self._client.describe_mount_target_security_groups(MountTargetId=mount_target_id),
        )
        groups: list[str] = answer["SecurityGroups"]
        return groups

    async def modify_mount_target_security_groups(self, mount_target_id: str, groups: list[str]) -> Answer:
        return await self._call(
            "ModifyMountTargetSecurityGroups",
            self._client.modify_mount_target_security_groups(
                MountTargetId=mount_target_id, SecurityGroups=groups
            ),
        )

    async def delete_mount_target(self, mount_target_id: str) -> Answer:
        return await self._call(
            "DeleteMountTarget", self._client.delete_mount_target(MountTargetId=mount_target_id)
        )


class MeteringSdk(_Sdk):
    """AWS Marketplace's metering service. Create it with `Session.metering`."""

    async def register_usage(self, **params: Any) -> Answer:
        return await self._call("RegisterUsage", self._client.register_usage(**params))

    async def meter_usage(self, **params: Any) -> Answer:
        return await self._call("MeterUsage", self._client.meter_usage(**params))


def _timestamp(value: Any) -> datetime:
    """botocore's own (dateutil) takes a tenth of a millisecond: a third of the time that a thousand instances take."""
    if isinstance(value, str):
        with suppress(ValueError):
            return datetime.fromisoformat(value)
    parsed: datetime = parse_timestamp(value)
    return parsed


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
        with _border(""):
            found = await self._session.get_credentials()
        if found is None:
            raise NotAuthorized("no AWS credentials", code="NoCredentials")
        return str(found.method)

    @asynccontextmanager
    async def ecr(self, region: str) -> AsyncIterator[EcrSdk]:
        """A client of the registries in one region. Raises as `ec2`."""
        settings = self._settings
        where = {"endpoint_url": settings.endpoint_url, "verify": settings.verify_tls}
        async with self._client("ecr", region_name=region, **where) as client:
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
            with _border(""):
                client = self._session.client(service, config=config, **parameters)
                client = await stack.enter_async_context(client)
            yield client


@asynccontextmanager
async def open_ec2(settings: SdkSettings, *, observe: Observe = unobserved) -> AsyncIterator[Ec2Sdk]:
    """EC2 alone, in a session of its own; see `Session`."""
    async with Session(settings, observe=observe).ec2() as ec2:
        yield ec2


def filters(
    values: Mapping[str, str | list[str] | tuple[str, ...]] | None = None,
    tags: Mapping[str, str] | None = None,
) -> list[Answer]:
    """EC2's filter list; `tags` become `tag:` filters."""
    wanted = {**(values or {}), **{f"tag:{key}": value for key, value in (tags or {}).items()}}
    return [
        {"Name": name, "Values": [value] if isinstance(value, str) else list(value)}
        for name, value in wanted.items()
    ]


def _of_aws(url: str) -> bool:
    return (urlsplit(url).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))


@contextmanager
def _border(action: str) -> Iterator[None]:
    """AWS's and the SDK's exceptions leave in our words; an exception that is neither leaves as it is."""
    try:
        yield
    except aws.ClientError as error:
        detail = error.response.get("Error", {})
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400))
        code, message = str(detail.get("Code", "")), str(detail.get("Message", ""))
        raise from_code(action, code, message, http_status=status) from error
    except (aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError) as error:
        raise NotAuthorized(f"no AWS credentials: {error}", action=action, code="NoCredentials") from error
    except (aws.ParamValidationError, aws.NoRegionError, aws.InvalidRegionError) as error:
        raise InvalidRequest(str(error), action=action) from error
    except (aws.BotoCoreError, ResponseParserError, TimeoutError, OSError) as error:
        raise Unreachable(f"no usable answer: {error}", action=action) from error
