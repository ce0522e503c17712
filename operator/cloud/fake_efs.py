"""The cloud in memory, with EFS: it takes its time, and refuses what EFS refuses."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NoReturn

from kip.cloud.base import SecurityGroup
from kip.cloud.efs import LIVE, MOST_SECURITY_GROUPS, FileSystem, MountTarget, NewFileSystem, State
from kip.cloud.errors import CloudError, from_code
from kip.cloud.fake import FakeCloud
from kip.cloud.nfsgroup import NfsGroup, image_cache_tags, is_image_cache, nfs_group_name


class FakeEfs(FakeCloud):
    """`FileSystems` and `NfsGroups` beside what `FakeCloud` is."""

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        #: Seconds that a file system or mount target takes to come, or to go.
        self.efs_delay = 0.0
        #: Zones that EFS does not have.
        self.zones_without_efs: set[str] = set()
        self._systems: dict[str, FileSystem] = {}
        self._targets: dict[str, MountTarget] = {}
        self._days: dict[str, int] = {}
        self._due: dict[str, datetime] = {}
        self._nfs: dict[str, NfsGroup] = {}
        self._numbers = itertools.count()

    # What tests do with it.

    def add_group(
        self, name: str, *, vpc_id: str | None = None, tags: Mapping[str, str] | None = None
    ) -> str:
        """A security group that somebody made by hand."""
        place = vpc_id or self.vpc_id
        id_ = f"sg-{next(self._numbers):08x}"
        self._groups[place, name] = id_
        self._nfs[id_] = NfsGroup(id=id_, name=name, vpc_id=place, tags=dict(tags or {}))
        return id_

    def break_mount_target(self, id_: str) -> None:
        """Let it end in the state `error`."""
        self._due.pop(id_, None)
        self._targets[id_] = replace(self._targets[id_], state="error")

    # FileSystems

    async def file_systems(self) -> list[FileSystem]:
        _raise(await self._enter("DescribeFileSystems", None))
        self._pass_time()
        return [self._systems[id_] for id_ in sorted(self._systems)]

    async def create_file_system(self, wanted: NewFileSystem) -> FileSystem:
        after = await self._enter("CreateFileSystem", wanted)
        self._pass_time()
        made = next((one for one in self._systems.values() if one.token == wanted.token), None)
        if made is None:
            made = FileSystem(
                id=f"fs-{len(self.called('CreateFileSystem')):017x}",
                state="creating",
                token=wanted.token,
                tags=dict(wanted.tags),
                encrypted=wanted.encrypted,
                throughput=wanted.throughput,
            )
            self._set(made, "creating")
        _raise(after)
        return self._systems[made.id]

    async def delete_file_system(self, file_system_id: str) -> None:
        after = await self._enter("DeleteFileSystem", file_system_id)
        self._pass_time()
        if any(target.file_system_id == file_system_id for target in self._targets.values()):
            _refuse("DeleteFileSystem", "FileSystemInUse", f"{file_system_id} has mount targets")
        if found := self._systems.get(file_system_id):
            self._set(found, "deleting")
        _raise(after)

    async def lifecycle_days(self, file_system_id: str) -> int | None:
        _raise(await self._enter("DescribeLifecycleConfiguration", file_system_id))
        self._system("DescribeLifecycleConfiguration", file_system_id)
        return self._days.get(file_system_id)

    async def set_lifecycle_days(self, file_system_id: str, days: int) -> None:
        after = await self._enter("PutLifecycleConfiguration", (file_system_id, days))
        self._days[self._system("PutLifecycleConfiguration", file_system_id).id] = days
        _raise(after)

    async def mount_targets(self, file_system_id: str) -> list[MountTarget]:
        _raise(await self._enter("DescribeMountTargets", file_system_id))
        self._pass_time()
        found = [target for target in self._targets.values() if target.file_system_id == file_system_id]
        return sorted(found, key=lambda target: (target.zone, target.id))

    async def create_mount_target(
        self, file_system_id: str, subnet_id: str, security_group_ids: Sequence[str]
    ) -> MountTarget:
        action = "CreateMountTarget"
        after = await self._enter(action, (file_system_id, subnet_id))
        system = self._system(action, file_system_id)
        if system.state != "available":
            text = f"{system.id} is {system.state}"
            _refuse(action, "IncorrectFileSystemLifeCycleState", text)
        if subnet_id not in self._pools:
            _refuse(action, "SubnetNotFound", f"there is no subnet {subnet_id}")
        subnet = self._pools[subnet_id].subnet
        self._check_mount_target(action, file_system_id, subnet.zone, security_group_ids)
        made = MountTarget(
            id=f"fsmt-{len(self.called(action)):017x}",
            file_system_id=file_system_id,
            state="creating",
            vpc_id=subnet.vpc_id,
            subnet_id=subnet_id,
            zone=subnet.zone,
            ip=self._pools[subnet_id].take(1)[0],
            security_group_ids=tuple(security_group_ids),
        )
        self._set(made, "creating")
        _raise(after)
        return self._targets[made.id]

    async def set_security_groups(self, mount_target_id: str, security_group_ids: Sequence[str]) -> None:
        action = "ModifyMountTargetSecurityGroups"
        after = await self._enter(action, (mount_target_id, tuple(security_group_ids)))
        self._pass_time()
        if mount_target_id not in self._targets:
            _refuse(action, "MountTargetNotFound", f"there is no mount target {mount_target_id}")
        self._check_groups(action, security_group_ids)
        found = self._targets[mount_target_id]
        self._targets[mount_target_id] = replace(found, security_group_ids=tuple(security_group_ids))
        _raise(after)

    async def delete_mount_target(self, mount_target_id: str) -> None:
        after = await self._enter("DeleteMountTarget", mount_target_id)
        self._pass_time()
        if found := self._targets.get(mount_target_id):
            self._set(found, "deleting")
        _raise(after)

    # NfsGroups

    async def tagged_groups(self, cluster: str) -> list[NfsGroup]:
        _raise(await self._enter("DescribeSecurityGroups", cluster))
        return [group for _, group in sorted(self._nfs.items()) if is_image_cache(group.tags, cluster)]

    async def named_groups(self, *group_names: str) -> list[NfsGroup]:
        _raise(await self._enter("DescribeSecurityGroups", group_names))
        return [group for _, group in sorted(self._nfs.items()) if group.name in group_names]

    async def create_nfs_group(self, cluster: str, vpc_id: str) -> NfsGroup:
        name = nfs_group_name(cluster)
        after = await self._enter("CreateSecurityGroup", name)
        if (vpc_id, name) in self._groups:
            _refuse("CreateSecurityGroup", "InvalidGroup.Duplicate", f"{vpc_id} has a group {name}")
        made = self.add_group(name, vpc_id=vpc_id, tags=image_cache_tags(cluster, name))
        _raise(after)
        return self._nfs[made]

    async def admit(self, group_id: str, source_ids: Collection[str]) -> None:
        after = await self._enter("AuthorizeSecurityGroupIngress", (group_id, frozenset(source_ids)))
        self._check_groups("AuthorizeSecurityGroupIngress", (group_id, *source_ids), "InvalidGroup.NotFound")
        group = self._nfs[group_id]
        self._nfs[group_id] = replace(group, admits=group.admits | set(source_ids))
        _raise(after)

    async def groups_naming(self, group_id: str) -> list[SecurityGroup]:
        naming = [group for group in self._nfs.values() if group_id in group.admits and group.id != group_id]
        found = [SecurityGroup(id=group.id, name=group.name, vpc_id=group.vpc_id) for group in naming]
        return [*await super().groups_naming(group_id), *found]

    async def delete_security_group(self, group_id: str) -> None:
        self._pass_time()
        named = any(group_id in group.admits for group in self._nfs.values() if group.id != group_id)
        worn = any(group_id in (target.security_group_ids or ()) for target in self._targets.values())
        if named or worn:
            _raise(await self._enter("DeleteSecurityGroup", group_id))
            _refuse("DeleteSecurityGroup", "DependencyViolation", f"{group_id} has a dependent object")
        await super().delete_security_group(group_id)
        self._nfs.pop(group_id, None)

    async def cell_security_groups(self, cluster: str) -> list[SecurityGroup]:
        return [group for group in await super().cell_security_groups(cluster) if group.id not in self._nfs]

    def _system(self, action: str, id_: str) -> FileSystem:
        self._pass_time()
        if id_ not in self._systems:
            _refuse(action, "FileSystemNotFound", f"there is no file system {id_}")
        return self._systems[id_]

    def _check_mount_target(self, action: str, system: str, zone: str, groups: Collection[str]) -> None:
        if zone in self.zones_without_efs:
            _refuse(action, "UnsupportedAvailabilityZone", f"EFS is not in {zone}")
        if any(one.zone == zone for one in self._targets.values() if one.file_system_id == system):
            _refuse(action, "MountTargetConflict", f"{system} has a mount target in {zone}")
        self._check_groups(action, groups)

    def _check_groups(self, action: str, ids: Collection[str], code: str = "SecurityGroupNotFound") -> None:
        if len(ids) > MOST_SECURITY_GROUPS:
            _refuse(action, "SecurityGroupLimitExceeded", "five security groups at most")
        for id_ in ids:
            if id_ not in self._groups.values():
                _refuse(action, code, f"there is no security group {id_}")

    def _set(self, thing: FileSystem | MountTarget, state: State) -> None:
        if thing.state == "deleting":
            return
        if isinstance(thing, FileSystem):
            self._systems[thing.id] = replace(thing, state=state)
        else:
            self._targets[thing.id] = replace(thing, state=state)
        self._due[thing.id] = self._clock.now() + timedelta(seconds=self.efs_delay)
        self._pass_time()

    def _pass_time(self) -> None:
        """Let happen what was due."""
        now = self._clock.now()
        for id_ in [id_ for id_, moment in self._due.items() if moment <= now]:
            del self._due[id_]
            if system := self._systems.pop(id_, None):
                if system.state in LIVE:
                    self._systems[id_] = replace(system, state="available")
            elif target := self._targets.pop(id_, None):
                if target.state in LIVE:
                    self._targets[id_] = replace(target, state="available")
                else:
                    self._pools[target.subnet_id].give_back((target.ip,))


def _refuse(action: str, code: str, text: str) -> NoReturn:
    raise from_code(action, code, text)


def _raise(error: CloudError | None) -> None:
    if error is not None:
        raise error
