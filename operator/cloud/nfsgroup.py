"""The security group of the image cache's mount targets: found by its tags, and who may reach NFS by it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from kip.cloud.errors import CloudError
from kip.cloud.sdk import Answer, Ec2Sdk, filters
from kip.cloud.securitygroup import OWN
from kip.model import names

NFS = 2049
IMAGE_CACHE = "image-cache"
"""Value of the tag kip.elotl.co/purpose, of the group and of the file system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NfsGroup:
    """A security group, and which groups it lets reach NFS."""

    id: str
    name: str
    vpc_id: str
    tags: Mapping[str, str] = field(default_factory=dict)
    admits: frozenset[str] = frozenset()
    """Ids of security groups whose members may reach port 2049."""


class NfsGroups(Protocol):
    """The groups. Every method may raise the errors of `kip.cloud.errors`."""

    async def tagged_groups(self, cluster: str) -> list[NfsGroup]:
        """The groups with the tags of this cluster's image cache, in all VPCs of the region, by id."""
        ...

    async def named_groups(self, *group_names: str) -> list[NfsGroup]:
        """Groups with one of these names, whoever made them, in all VPCs of the region, by id."""
        ...

    async def create_nfs_group(self, cluster: str, vpc_id: str) -> NfsGroup:
        """Make the group, with its tags, and without rules.

        Raises:
            CloudError: with the code `InvalidGroup.Duplicate` if the VPC has a group of that name.
        """
        ...

    async def admit(self, group_id: str, source_ids: Collection[str]) -> None:
        """Let members of these groups reach NFS; those that may already are fine."""
        ...


def nfs_group_name(cluster: str) -> str:
    """Name of the security group of a cluster's mount targets."""
    return f"kip-{cluster}-efs-mt"


def image_cache_tags(cluster: str, name: str) -> dict[str, str]:
    """What tells that a thing belongs to this cluster's image cache, and its name."""
    return {names.TAG_NAME: name, names.TAG_CLUSTER: cluster, names.TAG_PURPOSE: IMAGE_CACHE}


def is_image_cache(tags: Mapping[str, str], cluster: str) -> bool:
    """Does something with these tags belong to this cluster's image cache?"""
    return tags.get(names.TAG_CLUSTER) == cluster and tags.get(names.TAG_PURPOSE) == IMAGE_CACHE


class Ec2NfsGroups:
    """`NfsGroups` over EC2."""

    def __init__(self, sdk: Ec2Sdk) -> None:
        self._sdk = sdk

    async def tagged_groups(self, cluster: str) -> list[NfsGroup]:
        wanted = {names.TAG_CLUSTER: cluster, names.TAG_PURPOSE: IMAGE_CACHE}
        return await self._find(filters(tags=wanted))

    async def named_groups(self, *group_names: str) -> list[NfsGroup]:
        return await self._find(filters({"group-name": list(group_names)}))

    async def create_nfs_group(self, cluster: str, vpc_id: str) -> NfsGroup:
        name = nfs_group_name(cluster)
        tags = image_cache_tags(cluster, name)
        made = await self._sdk.create_security_group(
            GroupName=name,
            Description=f"Mount targets of the image cache of the Kip cluster {cluster}",
            VpcId=vpc_id,
            TagSpecifications=[
                {
                    "ResourceType": "security-group",
                    "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
                }
            ],
        )
        return NfsGroup(id=made["GroupId"], name=name, vpc_id=vpc_id, tags=tags)

    async def admit(self, group_id: str, source_ids: Collection[str]) -> None:
        # One by one: a rule that is there already makes EC2 refuse all rules of a call.
        for source in sorted(source_ids):
            pair = {"GroupId": source, "Description": f"{OWN}NFS of the image cache"}
            rule = {"IpProtocol": "tcp", "FromPort": NFS, "ToPort": NFS, "UserIdGroupPairs": [pair]}
            try:
                await self._sdk.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[rule])
            except CloudError as error:
                if error.code != "InvalidPermission.Duplicate":
                    raise

    async def _find(self, wanted: list[Answer]) -> list[NfsGroup]:
        found = await self._sdk.describe_security_groups(wanted)
        return sorted(map(to_nfs_group, found), key=lambda group: group.id)


def to_nfs_group(answer: Answer) -> NfsGroup:
    """A security group from AWS's description of it."""
    return NfsGroup(
        id=answer["GroupId"],
        name=answer["GroupName"],
        vpc_id=answer.get("VpcId", ""),
        tags={tag["Key"]: tag["Value"] for tag in answer.get("Tags", [])},
        admits=frozenset(_admitted(answer)),
    )


def _admitted(answer: Answer) -> Iterator[str]:
    for permission in answer.get("IpPermissions", []):
        everything = permission["IpProtocol"] == "-1"
        tcp = permission["IpProtocol"] in ("tcp", "6")
        if everything or (tcp and permission.get("FromPort", 0) <= NFS <= permission.get("ToPort", 65535)):
            yield from (pair["GroupId"] for pair in permission.get("UserIdGroupPairs", []))
