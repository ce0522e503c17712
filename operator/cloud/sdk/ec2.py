"""The calls of EC2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kip.cloud.errors import Unreachable
from kip.cloud.sdk.service import Answer, Observe, ServiceClient, unobserved

#: Instances are parsed where everything else runs: a page of 1000, EC2's largest, holds the event loop for 0.8 s, and
#: with it every stream and the Lease.
PAGE_SIZE = 200
#: DescribeRouteTables refuses larger ones.
ROUTE_TABLES_PAGE = 100


class Ec2Sdk(ServiceClient):
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
