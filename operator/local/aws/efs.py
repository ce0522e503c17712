"""What EFS does and moto does not: everything takes its time, and is refused while it cannot be.

moto makes file systems and mount targets available at once and deletes them at once; and it accepts security groups of
another VPC. Numbers and states: https://docs.aws.amazon.com/efs/latest/ug/API_Operations.html.
"""

from __future__ import annotations

import json
import re
import time
from types import ModuleType
from typing import Any

from moto.efs import urls
from moto.efs.exceptions import (
    BadRequest,
    EFSError,
    FileSystemInUse,
    FileSystemNotFound,
    MountTargetNotFound,
    SecurityGroupLimitExceeded,
    SecurityGroupNotFound,
    SubnetNotFound,
)
from moto.efs.models import EFSBackend, FileSystem, MountTarget

_MOST_GROUPS = 5
_TOKEN = re.compile(r"[!-~]{1,64}")

_API = "/2015-02-01"
_ACTIONS = tuple(
    (method, re.compile(_API + path), action)
    for method, path, action in (
        ("POST", "/file-systems", "CreateFileSystem"),
        ("GET", "/file-systems", "DescribeFileSystems"),
        ("DELETE", "/file-systems/[^/]+", "DeleteFileSystem"),
        ("GET", "/file-systems/[^/]+/lifecycle-configuration", "DescribeLifecycleConfiguration"),
        ("PUT", "/file-systems/[^/]+/lifecycle-configuration", "PutLifecycleConfiguration"),
        ("GET", "/file-systems/[^/]+/policy", "DescribeFileSystemPolicy"),
        ("PUT", "/file-systems/[^/]+/policy", "PutFileSystemPolicy"),
        ("GET", "/file-systems/[^/]+/backup-policy", "DescribeBackupPolicy"),
        ("POST", "/mount-targets", "CreateMountTarget"),
        ("GET", "/mount-targets", "DescribeMountTargets"),
        ("DELETE", "/mount-targets/[^/]+", "DeleteMountTarget"),
        ("GET", "/mount-targets/[^/]+/security-groups", "DescribeMountTargetSecurityGroups"),
        ("PUT", "/mount-targets/[^/]+/security-groups", "ModifyMountTargetSecurityGroups"),
        ("POST", "/access-points", "CreateAccessPoint"),
        ("GET", "/access-points", "DescribeAccessPoints"),
        ("DELETE", "/access-points/[^/]+", "DeleteAccessPoint"),
        ("GET", "/resource-tags/[^/]+", "ListTagsForResource"),
        ("POST", "/resource-tags/[^/]+", "TagResource"),
        ("DELETE", "/resource-tags/[^/]+", "UntagResource"),
    )
)


def action_of(method: str, path: str) -> str | None:
    """The name of an action of EFS's API, whose calls are told by method and path; None for anything else."""
    return next((a for m, known, a in _ACTIONS if m == method and known.fullmatch(path.rstrip("/"))), None)


class FileSystemAlreadyExists(EFSError):
    """moto's does not say which."""

    code = 409

    def __init__(self, file_system: FileSystem) -> None:
        name = "FileSystemAlreadyExists"
        token, id_ = file_system.creation_token, file_system.file_system_id
        text = f"File system '{id_}' already exists with creation token '{token}'"
        super().__init__(name, text)
        body = {"__type": name, "ErrorCode": name, "message": text, "FileSystemId": id_}
        self.description = json.dumps(body)


class IncorrectState(EFSError):
    """Not while it is coming or going."""

    code = 409

    def __init__(self, kind: str, id_: str, state: str) -> None:
        super().__init__(f"Incorrect{kind}", f"None shall be made for '{id_}' while it is {state}")


class NoFreeAddresses(EFSError):
    """The subnet is full."""

    code = 409

    def __init__(self, subnet_id: str) -> None:
        super().__init__("NoFreeAddressesInSubnet", f"The subnet '{subnet_id}' has no free addresses")


class LocalEfs(EFSBackend):
    """moto's EFS with a time that passes."""

    #: Seconds that a file system or mount target takes to come, or to go.
    delay = 1.0

    def __init__(self, region: str, account_id: str) -> None:
        super().__init__(region, account_id)
        # Of what is coming or going, by id: the moment (epoch seconds) at which it is there or gone.
        self._due: dict[str, float] = {}

    @property
    def _url_module(self) -> ModuleType:
        """moto looks for it beside the class's module."""
        return urls

    def create_file_system(self, creation_token: str, *args: Any, **kwargs: Any) -> FileSystem:
        self._pass_time()
        if not _TOKEN.fullmatch(creation_token or ""):
            raise BadRequest("The creation token must have 1 to 64 characters")
        for known in self.file_systems_by_id.values():
            if known.creation_token == creation_token:
                raise FileSystemAlreadyExists(known)
        made = super().create_file_system(creation_token, *args, **kwargs)
        self._begin(made, made.file_system_id, "creating")
        return made

    def describe_file_systems(self, *args: Any, **kwargs: Any) -> tuple[str | None, list[FileSystem]]:
        self._pass_time()
        return super().describe_file_systems(*args, **kwargs)

    def delete_file_system(self, file_system_id: str) -> None:
        self._pass_time()
        found = self._file_system(file_system_id)
        if found.number_of_mount_targets:
            raise FileSystemInUse(f"File system '{file_system_id}' has mount targets: delete them first")
        self._begin(found, file_system_id, "deleting")

    def create_mount_target(
        self,
        file_system_id: str,
        subnet_id: str,
        ip_address: str | None = None,
        security_groups: list[str] | None = None,
    ) -> MountTarget:
        self._pass_time()
        state = self._file_system(file_system_id).life_cycle_state
        if state != "available":
            raise IncorrectState("FileSystemLifeCycleState", file_system_id, state)
        # moto records a mount target first, and then may find that it cannot be.
        subnet = self._subnet(subnet_id)
        groups = security_groups or [self.ec2_backend.get_default_security_group(subnet.vpc_id).id]
        self._check_groups(groups, subnet.vpc_id)
        if not ip_address and not subnet.available_ip_address_count:
            raise NoFreeAddresses(subnet_id)
        made = super().create_mount_target(file_system_id, subnet_id, ip_address, groups)
        interface = self.ec2_backend.enis[made.network_interface_id]
        interface.description = f"Mount target {made.mount_target_id} for file system {file_system_id}"
        self._begin(made, made.mount_target_id, "creating")
        return made

    def describe_mount_targets(self, *args: Any, **kwargs: Any) -> tuple[str | None, list[MountTarget]]:
        self._pass_time()
        return super().describe_mount_targets(*args, **kwargs)

    def modify_mount_target_security_groups(self, mount_target_id: str, security_groups: list[str]) -> None:
        self._pass_time()
        found = self._mount_target(mount_target_id)
        if found.life_cycle_state != "available":
            raise IncorrectState("MountTargetState", mount_target_id, found.life_cycle_state)
        self._check_groups(security_groups, found.subnet_vpc_id)
        super().modify_mount_target_security_groups(mount_target_id, security_groups)

    def describe_mount_target_security_groups(self, mount_target_id: str) -> list[str] | None:
        self._pass_time()
        return super().describe_mount_target_security_groups(mount_target_id)

    def delete_mount_target(self, mount_target_id: str) -> None:
        self._pass_time()
        self._begin(self._mount_target(mount_target_id), mount_target_id, "deleting")

    def _file_system(self, id_: str) -> FileSystem:
        if id_ not in self.file_systems_by_id:
            raise FileSystemNotFound(id_)
        return self.file_systems_by_id[id_]

    def _mount_target(self, id_: str) -> MountTarget:
        if id_ not in self.mount_targets_by_id:
            raise MountTargetNotFound(id_)
        return self.mount_targets_by_id[id_]

    def _subnet(self, id_: str) -> Any:
        found = [subnet for zone in self.ec2_backend.subnets.values() for subnet in zone.values()]
        for subnet in found:
            if subnet.id == id_:
                return subnet
        raise SubnetNotFound(id_)

    def _check_groups(self, ids: list[str], vpc_id: str) -> None:
        if len(ids) > _MOST_GROUPS:
            raise SecurityGroupLimitExceeded("The maximum number of security groups has been reached.")
        for id_ in ids:
            if id_ not in self.ec2_backend.groups[vpc_id]:
                raise SecurityGroupNotFound(id_)

    def _begin(self, thing: FileSystem | MountTarget, id_: str, state: str) -> None:
        if state == "deleting" == thing.life_cycle_state:
            return
        thing.life_cycle_state = state
        self._due[id_] = time.time() + self.delay
        self._pass_time()

    def _pass_time(self) -> None:
        """Let happen what was due."""
        now = time.time()
        for id_ in [id_ for id_, moment in self._due.items() if moment <= now]:
            del self._due[id_]
            thing = self.file_systems_by_id.get(id_) or self.mount_targets_by_id[id_]
            if thing.life_cycle_state == "creating":
                thing.life_cycle_state = "available"
            elif isinstance(thing, FileSystem):
                super().delete_file_system(id_)
            else:
                super().delete_mount_target(id_)
