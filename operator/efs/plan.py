"""What is there, what is wanted, and the steps between: pure decisions, each with its reason."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from kip.cloud.base import Instance, SecurityGroup, Subnet
from kip.cloud.efs import LIVE, USABLE, FileSystem, MountTarget, NewFileSystem, Throughput
from kip.cloud.nfsgroup import NFS, NfsGroup, image_cache_tags, is_image_cache, nfs_group_name
from kip.cloud.securitygroup import security_group_name

Kind = Literal["cells' group", "mount targets' group", "rule", "file system", "lifecycle", "mount target"]
Action = Literal["keep", "create", "change", "delete"]

#: What the manual steps call their groups and their file system.
BY_HAND_GROUPS = ("kip-cells", "kip-efs-mt")
BY_HAND_FILE_SYSTEM = "kip-efs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What shall be there."""

    cluster: str
    vpc_id: str
    subnets: tuple[Subnet, ...]
    """Where mount targets may be, the preferred ones first."""
    named: bool = False
    """The subnets were named one by one: each is meant, and none is merely a candidate."""
    encrypted: bool = True
    kms_key_id: str | None = None
    throughput: Throughput | None = None
    """None: elastic for a new file system, and whatever it is for one that is there."""
    lifecycle_days: int | None = None
    """None: as it is."""
    admit: tuple[str, ...] = ()
    """Security groups that may reach the volume, besides the cells'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What there is of it, and what looks like it."""

    cells_groups: tuple[SecurityGroup, ...] = ()
    """Of this cluster's cells, in every VPC."""
    mount_groups: tuple[NfsGroup, ...] = ()
    """With the tags, in every VPC."""
    named_groups: tuple[NfsGroup, ...] = ()
    """With the names that `kip efs` or the manual steps give, whoever made them."""
    file_systems: tuple[FileSystem, ...] = ()
    """All of the region."""
    mount_targets: tuple[MountTarget, ...] = ()
    """Of the file systems with the tags."""
    lifecycle_days: int | None = None
    instances: tuple[Instance, ...] = ()
    """The cluster's cells that are not gone."""

    def ours(self, cluster: str) -> list[FileSystem]:
        """The file systems with the tags, without those that are gone."""
        return [
            one for one in self.file_systems if is_image_cache(one.tags, cluster) and one.state != "deleted"
        ]

    def cells_group(self, vpc_id: str) -> SecurityGroup | None:
        """The one of a VPC."""
        return next((group for group in self.cells_groups if group.vpc_id == vpc_id), None)

    def mount_group(self, vpc_id: str) -> NfsGroup | None:
        """The one of a VPC."""
        return next((group for group in self.mount_groups if group.vpc_id == vpc_id), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing, and what is done about it."""

    action: Action
    kind: Kind
    name: str
    """What people know it by: a group's name, whom a rule admits, a mount target's zone and subnet."""
    id: str = ""
    """Empty for what there is not yet, and for what has none."""
    state: str = ""
    why: str = ""
    zone: str = ""
    subnet_id: str = ""
    file_system_id: str = ""
    """These three are of a mount target; the last one only where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Steps in the order in which they are done, with what is there already in its place."""

    steps: tuple[Step, ...] = ()
    refusals: tuple[str, ...] = ()
    """Why nothing is done."""
    notes: tuple[str, ...] = ()
    """What people should know besides."""

    @property
    def todo(self) -> tuple[Step, ...]:
        """The steps that change something."""
        return tuple(step for step in self.steps if step.action != "keep")


def creation_token(cluster: str, vpc_id: str) -> str:
    """By which a repeated CreateFileSystem meets the first one's file system."""
    return f"kip-efs-{hashlib.sha256(f'{cluster}/{vpc_id}'.encode()).hexdigest()[:48]}"


def file_system_name(cluster: str) -> str:
    """Its tag `Name`."""
    return f"kip-{cluster}-efs"


def new_file_system(wanted: Wanted) -> NewFileSystem:
    """The file system to ask for."""
    return NewFileSystem(
        token=creation_token(wanted.cluster, wanted.vpc_id),
        tags=image_cache_tags(wanted.cluster, file_system_name(wanted.cluster)),
        encrypted=wanted.encrypted,
        kms_key_id=wanted.kms_key_id,
        throughput=wanted.throughput or "elastic",
    )


def is_own_target(target: MountTarget, mount_groups: Iterable[NfsGroup]) -> bool:
    """Did `kip efs` make it? Mount targets have no tags, but one that wears our group and no other is of nobody else."""
    groups = target.security_group_ids or ()
    return len(groups) == 1 and groups[0] in {group.id for group in mount_groups}


def plan(found: Found, wanted: Wanted) -> Plan:
    """What to do so that the cells of the cluster can mount a volume.

    The groups come first, since a rule and a mount target name them; each step can be the last one of a run that
    breaks off, and the next run begins with what is there.
    """
    refusals = (*_refusals(found, wanted), *_refused_subnets(wanted))
    living = [one for one in found.ours(wanted.cluster) if one.state in LIVE]
    system = living[0] if living else None
    targets = [target for target in found.mount_targets if system and target.file_system_id == system.id]
    steps = (
        *_groups(found, wanted),
        *_rules(found, wanted),
        _file_system(found, wanted, system),
        *_lifecycle(found, wanted, system),
        *_targets(found, wanted, targets),
    )
    return Plan(steps=steps, refusals=refusals, notes=tuple(_notes(found, wanted, system)))


def _refusals(found: Found, wanted: Wanted) -> Iterator[str]:
    living = [one for one in found.ours(wanted.cluster) if one.state in LIVE]
    if len(living) > 1:
        yield (
            f"{_listed(one.id for one in living)} all have the tags of this cluster's image cache: "
            "take the tags away from those that it shall not use"
        )
    vpcs = {target.vpc_id for target in found.mount_targets} - {wanted.vpc_id}
    if vpcs and living:
        yield (
            f"{living[0].id} has mount targets in {_listed(vpcs)}, and a file system can have them in one VPC only: "
            "name that VPC, or `kip efs teardown` first"
        )
    for system in found.ours(wanted.cluster):
        if system.state == "error":
            yield f"{system.id} is in the state error, which EFS does not leave: `kip efs teardown` first"
    name = nfs_group_name(wanted.cluster)
    if found.mount_group(wanted.vpc_id) is None:
        for group in found.named_groups:
            if (group.name, group.vpc_id) == (name, wanted.vpc_id):
                yield (
                    f"{group.id} in {group.vpc_id} is called {name}, but does not have the tags that `kip efs` gives: "
                    f"delete it, or give it {_tags(wanted.cluster)}"
                )


def _refused_subnets(wanted: Wanted) -> Iterator[str]:
    if not wanted.subnets:
        yield f"{wanted.vpc_id} has no subnet"
    foreign = [subnet for subnet in wanted.subnets if subnet.vpc_id != wanted.vpc_id]
    for subnet in foreign:
        yield f"{subnet.id} is in {subnet.vpc_id}, not in {wanted.vpc_id}: all mount targets are in one VPC"
    if wanted.named and not foreign:
        for zone, subnets in _by_zone(wanted.subnets).items():
            if len(subnets) > 1:
                yield (
                    f"{_listed(s.id for s in subnets)} are all in {zone}, where a file system has one mount target, for "
                    "all subnets of the zone: name one of them"
                )


def _groups(found: Found, wanted: Wanted) -> Iterator[Step]:
    cells, mount = found.cells_group(wanted.vpc_id), found.mount_group(wanted.vpc_id)
    name = security_group_name(wanted.cluster)
    if cells:
        yield Step(action="keep", kind="cells' group", name=cells.name, id=cells.id, why="every cell has it")
    else:
        yield Step(
            action="create", kind="cells' group", name=name, why="as Kip does, which gives it to every cell"
        )
    if mount:
        yield Step(
            action="keep",
            kind="mount targets' group",
            name=mount.name,
            id=mount.id,
            why="of the mount targets",
        )
    else:
        name = nfs_group_name(wanted.cluster)
        yield Step(action="create", kind="mount targets' group", name=name, why="for the mount targets")


def _rules(found: Found, wanted: Wanted) -> Iterator[Step]:
    cells, mount = found.cells_group(wanted.vpc_id), found.mount_group(wanted.vpc_id)
    admitted = mount.admits if mount else frozenset()
    sources = [(cells.id if cells else "", security_group_name(wanted.cluster), "cells")]
    sources += [(id_, id_, "asked for") for id_ in wanted.admit]
    for id_, name, why in sources:
        there = id_ in admitted
        shown = f"tcp {NFS} from {name}"
        yield Step(action="keep" if there else "create", kind="rule", name=shown, id=id_, why=why)


def _file_system(found: Found, wanted: Wanted, system: FileSystem | None) -> Step:
    name = file_system_name(wanted.cluster)
    if system:
        name = system.name or name
        return Step(
            action="keep", kind="file system", name=name, id=system.id, state=system.state, why="tagged"
        )
    going = [one.id for one in found.ours(wanted.cluster) if one.state == "deleting"]
    kind = (
        f"{'encrypted' if wanted.encrypted else 'not encrypted'}, {wanted.throughput or 'elastic'} throughput"
    )
    why = f"{kind}; when {_listed(going)} is gone" if going else kind
    return Step(action="create", kind="file system", name=name, why=why)


def _lifecycle(found: Found, wanted: Wanted, system: FileSystem | None) -> Iterator[Step]:
    days = wanted.lifecycle_days
    if days is None:
        return
    same = system is not None and found.lifecycle_days == days
    before = f"was after {found.lifecycle_days}" if system and found.lifecycle_days else ""
    yield Step(
        action="keep" if same else "change",
        kind="lifecycle",
        name=f"to Infrequent Access after {days} days",
        id=system.id if system else "",
        why="" if same else before,
    )


def _targets(found: Found, wanted: Wanted, targets: Sequence[MountTarget]) -> Iterator[Step]:
    there = {target.zone: target for target in targets}
    mount = found.mount_group(wanted.vpc_id)
    for zone, subnets in _by_zone(wanted.subnets).items():
        target = there.get(zone)
        if target and target.state != "deleting":
            yield _kept(target, mount)
        else:
            going = f"; when {target.id} is gone" if target else ""
            others = len(subnets) - 1
            also = (
                f"; also for the {others} other subnet{'s' if others > 1 else ''} of the zone"
                if others
                else ""
            )
            subnet = subnets[0]
            why = f"{subnet.free_addresses} addresses free{also}{going}"
            yield _target("create", zone, subnet.id, why=why)


def _kept(target: MountTarget, mount: NfsGroup | None) -> Step:
    groups = target.security_group_ids
    lacks = groups is not None and (mount is None or mount.id not in groups)
    why = f"lacks the mount targets' group, has {_listed(groups or ())}" if lacks else ""
    action: Action = "change" if lacks else "keep"
    return _target(action, target.zone, target.subnet_id, id_=target.id, state=target.state, why=why)


def _target(
    action: Action, zone: str, subnet_id: str, *, id_: str = "", state: str = "", why: str = ""
) -> Step:
    return Step(
        action=action,
        kind="mount target",
        name=f"{zone} {subnet_id}",
        id=id_,
        state=state,
        why=why,
        zone=zone,
        subnet_id=subnet_id,
    )


def _notes(found: Found, wanted: Wanted, system: FileSystem | None) -> Iterator[str]:
    if system and system.encrypted != wanted.encrypted:
        yield (
            f"{system.id} is {'' if system.encrypted else 'not '}encrypted, which cannot be changed: for that, "
            "`kip efs teardown` and setup again"
        )
    if system and wanted.throughput not in (None, system.throughput):
        yield (
            f"{system.id} has {system.throughput} throughput: to change it, aws efs update-file-system "
            f"--file-system-id {system.id} --throughput-mode {wanted.throughput}"
        )
    wanted_zones = {subnet.zone for subnet in wanted.subnets}
    for target in found.mount_targets:
        if target.zone not in wanted_zones:
            yield f"{target.id} in {target.zone} is in no subnet that is asked for now; it is left"
    here = tuple(group for group in found.named_groups if group.vpc_id == wanted.vpc_id)
    yield from by_hand(replace(found, named_groups=here), wanted.cluster)


def by_hand(found: Found, cluster: str) -> Iterator[str]:
    """What the manual steps have made, which is never touched."""
    for system in found.file_systems:
        if system.name == BY_HAND_FILE_SYSTEM and not is_image_cache(system.tags, cluster):
            yield f"{system.id} is called {system.name}, as by the manual steps: not made by `kip efs`, not touched"
    for group in found.named_groups:
        if group.name in BY_HAND_GROUPS and not is_image_cache(group.tags, cluster):
            yield f"{group.id} is called {group.name}, as by the manual steps: not made by `kip efs`, not touched"


def incomplete(todo: Plan) -> Iterator[str]:
    """Why the volume cannot be used yet, of a plan for what there is now."""
    yield from todo.refusals
    for step in todo.steps:
        if step.action != "keep":
            yield f"{step.kind} {step.name}: {'missing' if step.action == 'create' else step.why or 'differs'}"
        elif step.state and step.state not in USABLE:
            yield f"{step.kind} {step.name}: {step.state}"


def _by_zone(subnets: Collection[Subnet]) -> Mapping[str, list[Subnet]]:
    """The subnets of each zone, in their order; zones by name."""
    zones: dict[str, list[Subnet]] = {}
    for subnet in sorted(subnets, key=lambda one: one.zone):
        zones.setdefault(subnet.zone, []).append(subnet)
    return zones


def _tags(cluster: str) -> str:
    tags = image_cache_tags(cluster, "")
    return " and ".join(f"{key}={value}" for key, value in tags.items() if value)


def _listed(some: Iterable[str]) -> str:
    return ", ".join(sorted(some)) or "none"
