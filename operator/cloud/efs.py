"""EFS: file systems, and the mount targets by which a VPC reaches them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from kip.cloud.errors import CloudError, NotFound
from kip.cloud.sdk import Answer, EfsSdk

State = Literal["creating", "available", "updating", "deleting", "deleted", "error"]
"""LifeCycleState of a file system or mount target."""
Throughput = Literal["elastic", "bursting"]

#: States in which something works, or is about to.
LIVE: frozenset[State] = frozenset(("creating", "available", "updating"))
#: States in which it works.
USABLE: frozenset[State] = frozenset(("available", "updating"))
#: Days after which EFS can move a file that nobody reads to cheaper storage (PutLifecycleConfiguration).
LIFECYCLE_DAYS = (1, 7, 14, 30, 60, 90, 180, 270, 365)
#: Of a mount target.
MOST_SECURITY_GROUPS = 5

ALREADY_EXISTS = "FileSystemAlreadyExists"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFileSystem:
    """What CreateFileSystem makes; `generalPurpose`, in all zones of the region, without backups."""

    token: str
    """1 to 64 characters. The same token never makes a second file system."""
    tags: Mapping[str, str]
    encrypted: bool = True
    """At rest; cannot be changed later."""
    kms_key_id: str | None = None
    """Of a key of one's own; None for that of EFS, `aws/elasticfilesystem`."""
    throughput: Throughput = "elastic"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystem:
    """A file system as DescribeFileSystems shows it."""

    id: str
    state: State
    token: str
    tags: Mapping[str, str] = field(default_factory=dict)
    encrypted: bool
    throughput: str
    """`elastic`, `bursting` or `provisioned`."""
    size_bytes: int = 0
    """As EFS last metered it, some minutes or an hour ago."""

    @property
    def name(self) -> str:
        """Its tag `Name`, empty without one."""
        return self.tags.get("Name", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class MountTarget:
    """A mount target. EFS gives them no tags: whose one is, only its file system and its security groups tell."""

    id: str
    file_system_id: str
    state: State
    vpc_id: str
    subnet_id: str
    zone: str
    ip: str
    security_group_ids: tuple[str, ...] | None
    """None while EFS does not tell them: it has no network interface yet, or none any more."""


class FileSystems(Protocol):
    """EFS. Every method may raise the errors of `kip.cloud.errors`."""

    async def file_systems(self) -> list[FileSystem]:
        """All of the account in the region, those that are being deleted included, by id."""
        ...

    async def create_file_system(self, wanted: NewFileSystem) -> FileSystem:
        """Make one, which is `creating` at first; with a token that was used, the one it made, as it is now."""
        ...

    async def delete_file_system(self, file_system_id: str) -> None:
        """Begin to delete it and all that is in it; fine if it is gone.

        Raises:
            CloudError: with the code `FileSystemInUse` while it has a mount target.
        """
        ...

    async def lifecycle_days(self, file_system_id: str) -> int | None:
        """Days without a read after which files go to cheaper storage; None for never."""
        ...

    async def set_lifecycle_days(self, file_system_id: str, days: int) -> None:
        """Let unread files go to Infrequent Access after that many days (of `LIFECYCLE_DAYS`), and back at the next read."""
        ...

    async def mount_targets(self, file_system_id: str) -> list[MountTarget]:
        """Those of a file system, by zone and id; none if it is gone."""
        ...

    async def create_mount_target(
        self, file_system_id: str, subnet_id: str, security_group_ids: Sequence[str]
    ) -> MountTarget:
        """Make one, which is `creating` for a minute or two.

        Raises:
            CloudError: with the code `MountTargetConflict` if the zone has one or others are in another VPC, or
                `IncorrectFileSystemLifeCycleState` while the file system is not available.
            InvalidRequest: with the code `UnsupportedAvailabilityZone`.
            NotFound: there is no such file system, subnet or security group in that VPC.
            SubnetFull, QuotaExceeded.
        """
        ...

    async def set_security_groups(self, mount_target_id: str, security_group_ids: Sequence[str]) -> None:
        """Replace its security groups; raises NotFound, and QuotaExceeded for more than five."""
        ...

    async def delete_mount_target(self, mount_target_id: str) -> None:
        """Begin to delete it, which breaks what is mounted by it; fine if it is gone."""
        ...


class Efs:
    """`FileSystems` over AWS."""

    def __init__(self, sdk: EfsSdk) -> None:
        self._sdk = sdk

    async def file_systems(self) -> list[FileSystem]:
        found = await self._sdk.describe_file_systems()
        return sorted(map(to_file_system, found), key=lambda one: one.id)

    async def create_file_system(self, wanted: NewFileSystem) -> FileSystem:
        key = {"KmsKeyId": wanted.kms_key_id} if wanted.kms_key_id else {}
        try:
            made = await self._sdk.create_file_system(
                CreationToken=wanted.token,
                PerformanceMode="generalPurpose",
                Encrypted=wanted.encrypted,
                ThroughputMode=wanted.throughput,
                Tags=[{"Key": name, "Value": value} for name, value in wanted.tags.items()],
                **key,
            )
        except CloudError as error:
            if error.code != ALREADY_EXISTS:
                raise
            known = [one for one in await self.file_systems() if one.token == wanted.token]
            if not known:
                raise
            return known[0]
        return to_file_system(made)

    async def delete_file_system(self, file_system_id: str) -> None:
        try:
            await self._sdk.delete_file_system(file_system_id)
        except NotFound:
            pass

    async def lifecycle_days(self, file_system_id: str) -> int | None:
        answer = await self._sdk.describe_lifecycle_configuration(file_system_id)
        rules = [policy["TransitionToIA"] for policy in _policies(answer) if "TransitionToIA" in policy]
        return int(rules[0].split("_")[1]) if rules else None

    async def set_lifecycle_days(self, file_system_id: str, days: int) -> None:
        # Each policy of the list has one rule, and the list is the whole configuration.
        policies = [
            {"TransitionToIA": lifecycle_rule(days)},
            {"TransitionToPrimaryStorageClass": "AFTER_1_ACCESS"},
        ]
        await self._sdk.put_lifecycle_configuration(FileSystemId=file_system_id, LifecyclePolicies=policies)

    async def mount_targets(self, file_system_id: str) -> list[MountTarget]:
        try:
            found = await self._sdk.describe_mount_targets(file_system_id)
        except NotFound:
            return []
        groups = await asyncio.gather(*(self._groups(answer["MountTargetId"]) for answer in found))
        targets = [to_mount_target(answer, ids) for answer, ids in zip(found, groups, strict=True)]
        return sorted(targets, key=lambda target: (target.zone, target.id))

    async def create_mount_target(
        self, file_system_id: str, subnet_id: str, security_group_ids: Sequence[str]
    ) -> MountTarget:
        made = await self._sdk.create_mount_target(
            FileSystemId=file_system_id, SubnetId=subnet_id, SecurityGroups=list(security_group_ids)
        )
        return to_mount_target(made, tuple(security_group_ids))

    async def set_security_groups(self, mount_target_id: str, security_group_ids: Sequence[str]) -> None:
        await self._sdk.modify_mount_target_security_groups(mount_target_id, list(security_group_ids))

    async def delete_mount_target(self, mount_target_id: str) -> None:
        try:
            await self._sdk.delete_mount_target(mount_target_id)
        except NotFound:
            pass

    async def _groups(self, mount_target_id: str) -> tuple[str, ...] | None:
        try:
            return tuple(await self._sdk.describe_mount_target_security_groups(mount_target_id))
        except NotFound:
            return None
        except CloudError as error:
            if error.code != "IncorrectMountTargetState":
                raise
            return None


def lifecycle_rule(days: int) -> str:
    """EFS's name for a number of days: `AFTER_30_DAYS`."""
    return f"AFTER_{days}_DAY{'S' if days != 1 else ''}"


def dns_name(file_system_id: str, region: str) -> str:
    """The name that leads, in each zone of the VPC, to the zone's own mount target.

    https://docs.aws.amazon.com/efs/latest/ug/mounting-fs-mount-cmd-dns-name.html
    """
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"{file_system_id}.efs.{region}.{suffix}"


def to_file_system(answer: Answer) -> FileSystem:
    """A file system from AWS's description of it."""
    return FileSystem(
        id=answer["FileSystemId"],
        state=answer["LifeCycleState"],
        token=answer["CreationToken"],
        tags={tag["Key"]: tag["Value"] for tag in answer.get("Tags", [])},
        encrypted=answer.get("Encrypted", False),
        throughput=answer.get("ThroughputMode", "bursting"),
        size_bytes=answer.get("SizeInBytes", {}).get("Value", 0),
    )


def to_mount_target(answer: Answer, groups: tuple[str, ...] | None) -> MountTarget:
    """A mount target from AWS's description of it and of its security groups."""
    return MountTarget(
        id=answer["MountTargetId"],
        file_system_id=answer["FileSystemId"],
        state=answer["LifeCycleState"],
        vpc_id=answer.get("VpcId", ""),
        subnet_id=answer["SubnetId"],
        zone=answer.get("AvailabilityZoneName", ""),
        ip=answer.get("IpAddress", ""),
        security_group_ids=groups,
    )


def _policies(answer: Answer) -> list[dict[str, str]]:
    policies: list[dict[str, str]] = answer.get("LifecyclePolicies") or []
    return policies
