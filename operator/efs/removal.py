"""What `kip efs teardown` takes away, what it leaves, and why: pure decisions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kip.cloud.efs import FileSystem, MountTarget
from kip.efs.plan import Found, Kind, Plan, Step, by_hand, is_own_target

# More are counted instead of named.
_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Something that stays, and why."""

    kind: Kind
    id: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal(Plan):
    """A plan of deletions, and what they leave."""

    left: tuple[Left, ...] = ()

    @property
    def kept_of_ours(self) -> bool:
        """Does something stay that `kip efs` has made?"""
        return any(one.kind in ("file system", "mount targets' group") for one in self.left)


def removal(found: Found, cluster: str) -> Removal:
    """Mount targets first, then their file systems, then the groups that they wore: EFS and EC2 allow no other order."""
    systems = found.ours(cluster)
    foreign = [one for one in found.mount_targets if not _may_go(one, found)]
    used = {target.file_system_id for target in foreign}
    worn = {group for target in foreign for group in target.security_group_ids or ()}
    steps = (
        *(_target(one) for one in found.mount_targets if one not in foreign),
        *(_file_system(one) for one in systems if one.id not in used),
        *(
            Step(
                action="delete",
                kind="mount targets' group",
                name=f"{g.name} in {g.vpc_id}",
                id=g.id,
                why="tagged",
            )
            for g in found.mount_groups
            if g.id not in worn
        ),
    )
    left = (
        *(Left(kind="mount target", id=one.id, why=_why_foreign(one)) for one in foreign),
        *(
            Left(kind="file system", id=one.id, why="it has a mount target that `kip efs` did not make")
            for one in systems
            if one.id in used
        ),
        *(
            Left(kind="mount targets' group", id=g.id, why="a mount target that is left wears it")
            for g in found.mount_groups
            if g.id in worn
        ),
        *(
            Left(kind="cells' group", id=g.id, why="Kip's cells have it; `kip cleanup` removes it with Kip")
            for g in found.cells_groups
        ),
    )
    notes = tuple(by_hand(found, cluster))
    return Removal(steps=steps, left=left, refusals=tuple(_refusals(found, steps)), notes=notes)


def _may_go(target: MountTarget, found: Found) -> bool:
    return target.state == "deleting" or is_own_target(target, found.mount_groups)


def _why_foreign(target: MountTarget) -> str:
    groups = target.security_group_ids
    worn = (
        "EFS does not tell its groups yet: run again" if groups is None else f"it wears {', '.join(groups)}"
    )
    return f"not made by `kip efs`, or changed since: {worn}"


def _target(target: MountTarget) -> Step:
    return Step(
        action="delete",
        kind="mount target",
        name=f"{target.zone} {target.subnet_id}",
        id=target.id,
        state=target.state,
        why=f"of {target.file_system_id}, wears the group of `kip efs` alone",
        zone=target.zone,
        subnet_id=target.subnet_id,
        file_system_id=target.file_system_id,
    )


def _file_system(system: FileSystem) -> Step:
    size = f"{system.size_bytes / 1e9:.1f} GB in it, as last metered"
    name = system.name or "without a name"
    return Step(
        action="delete",
        kind="file system",
        name=name,
        id=system.id,
        state=system.state,
        why=f"tagged; {size}",
    )


def _refusals(found: Found, steps: tuple[Step, ...]) -> Iterator[str]:
    if not steps or not found.instances:
        return
    listed = ", ".join(instance.id for instance in found.instances[:_NAMED])
    more = f" and {len(found.instances) - _NAMED} more" if len(found.instances) > _NAMED else ""
    yield (
        f"cells may have it mounted, and their pods would lose their images: {listed}{more}; "
        "take cells.imageCache.endpoint out of provider.yaml and let them end first"
    )
