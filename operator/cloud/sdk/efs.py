"""The calls of EFS."""

from __future__ import annotations

from typing import Any

from kip.cloud.sdk.service import Answer, ServiceClient

#: The largest (DescribeFileSystems, "MaxItems").
PAGE_SIZE = 100


class EfsSdk(ServiceClient):
    """EFS's API. Create it with `Session.efs`."""

    async def create_file_system(self, **params: Any) -> Answer:
        return await self._call("CreateFileSystem", self._client.create_file_system(**params))

    async def describe_file_systems(self) -> list[Answer]:
        return await self._paged("DescribeFileSystems", "describe_file_systems", "FileSystems", PAGE_SIZE)

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
            PAGE_SIZE,
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
