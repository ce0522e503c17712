"""Making it: a step after the other, each waited for; a run that breaks off is gone on with by the next."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

from kip.cloud.efs import USABLE, FileSystem, MountTarget
from kip.cloud.errors import CloudError
from kip.cloud.nfsgroup import NfsGroup
from kip.efs.look import Places
from kip.efs.plan import Plan, Step, Wanted, new_file_system
from kip.efs.waiting import Outcome, States, Unfinished, Waiting, at, reason, shown

# A zone without EFS keeps no other zone from its mount target.
_NOT_THERE = "UnsupportedAvailabilityZone"
_WORDS = {"keep": "there", "create": "made", "change": "changed"}


class Setup:
    """Carries a plan out."""

    def __init__(
        self,
        places: Places,
        wanted: Wanted,
        *,
        extra_cidrs: Collection[str] = (),
        tell: Callable[[str], None],
        timeout_s: float,
    ) -> None:
        """`extra_cidrs` are `cells.extraCIDRs`, for a cells' group that is missing; `tell` gets a line for each thing
        and what it has become; `timeout_s` is for each thing that has to be waited for."""
        self._places = places
        self._wanted = wanted
        self._extra_cidrs = extra_cidrs
        self._tell = tell
        self._wait = Waiting(places.clock, tell=tell, timeout_s=timeout_s)
        self._outcome = Outcome()
        self._cells = self._mount = self._system = ""

    async def run(self, plan: Plan) -> Outcome:
        """Everything, in order; what depends on something that failed is not tried."""
        do = {
            "cells' group": self._cells_group,
            "mount targets' group": self._mount_group,
            "rule": self._rule,
            "file system": self._file_system,
            "lifecycle": self._lifecycle,
        }
        targets = [step for step in plan.steps if step.kind == "mount target"]
        for step in plan.steps:
            if step.kind == "mount target":
                continue
            try:
                await do[step.kind](step)
            except (CloudError, Unfinished) as error:
                self._failed(step, error)
                return self._outcome
        await self._mount_targets(targets)
        return self._outcome

    async def _cells_group(self, step: Step) -> None:
        # One that is there is the operator's to look after, which may have another configuration than this run.
        if not step.id:
            self._cells = await self._wait.patiently(
                lambda: self._places.network.ensure_cell_security_group(
                    cluster=self._wanted.cluster, vpc_id=self._wanted.vpc_id, extra_cidrs=self._extra_cidrs
                )
            )
        self._cells = self._cells or step.id
        self._done(step, self._cells)

    async def _mount_group(self, step: Step) -> None:
        self._mount = step.id or (await self._wait.patiently(self._create_mount_group)).id
        self._done(step, self._mount)

    async def _create_mount_group(self) -> NfsGroup:
        cluster, vpc_id = self._wanted.cluster, self._wanted.vpc_id
        try:
            return await self._places.groups.create_nfs_group(cluster, vpc_id)
        except CloudError as error:
            if error.code != "InvalidGroup.Duplicate":
                raise
            # Made by another run, or by a call of ours whose answer was lost. Of anybody else's the plan has told.
            for group in await self._places.groups.tagged_groups(cluster):
                if group.vpc_id == vpc_id:
                    return group
            raise

    async def _rule(self, step: Step) -> None:
        source = step.id or self._cells
        if step.action == "create":
            await self._wait.patiently(lambda: self._places.groups.admit(self._mount, [source]))
        self._done(step, source)

    async def _file_system(self, step: Step) -> None:
        self._system = step.id or (await self._create_file_system()).id
        await self._wait.until(partial(self._coming_system, step))
        self._done(step, self._system, "available")

    async def _create_file_system(self) -> FileSystem:
        """The file system; EFS makes none with the same token until the one of before is gone."""
        asked, made = new_file_system(self._wanted), list[FileSystem]()

        async def look() -> States:
            made[:] = [await self._places.efs.create_file_system(asked)]
            going = made[0].state in ("deleting", "deleted")
            return [(f"file system  {made[0].id}", made[0].state)] if going else []

        await self._wait.until(look)
        return made[0]

    async def _coming_system(self, step: Step) -> States:
        found = [one for one in await self._places.efs.file_systems() if one.id == self._system]
        state = found[0].state if found else "not known yet"
        if state == "error":
            raise Unfinished(f"{self._system} is in the state error: `kip efs teardown`, then setup again")
        return [] if state in USABLE else [(shown(step, self._system), state)]

    async def _lifecycle(self, step: Step) -> None:
        days = self._wanted.lifecycle_days
        if step.action != "keep" and days is not None:
            await self._wait.patiently(lambda: self._places.efs.set_lifecycle_days(self._system, days))
        self._done(step, self._system)

    async def _mount_targets(self, steps: Iterable[Step]) -> None:
        """All begun first, and then waited for together: each takes a minute or two."""
        begun: dict[str, Step] = {}
        for step in steps:
            try:
                begun[await self._begin(step)] = step
            except (CloudError, Unfinished) as error:
                if isinstance(error, CloudError) and error.code == _NOT_THERE and not self._wanted.named:
                    self._skipped(step, "EFS is not in that zone")
                else:
                    self._failed(step, error)
        try:
            await self._wait.until(lambda: self._coming(begun))
        except (CloudError, Unfinished) as error:
            for step in begun.values():
                self._failed(step, error)

    async def _begin(self, step: Step) -> str:
        """The mount target's id."""
        if step.action == "create":
            await self._wait.until(lambda: self._going(step))
            return await self._wait.patiently(lambda: self._create_target(step))
        if step.action == "change":
            groups = next((one.security_group_ids for one in await self._targets() if one.id == step.id), ())
            worn = list(dict.fromkeys((*(groups or ()), self._mount)))
            await self._wait.patiently(lambda: self._places.efs.set_security_groups(step.id, worn))
        return step.id

    async def _create_target(self, step: Step) -> str:
        try:
            made = await self._places.efs.create_mount_target(self._system, step.subnet_id, [self._mount])
        except CloudError as error:
            if error.code != "MountTargetConflict":
                raise
            # Made by another run, or by a call of ours whose answer was lost.
            for target in await self._targets():
                if target.zone == step.zone and self._mount in (target.security_group_ids or ()):
                    return target.id
            raise
        return made.id

    async def _going(self, step: Step) -> States:
        """Mount targets of before that still are in the zone."""
        there = [one for one in await self._targets() if one.zone == step.zone and one.state == "deleting"]
        return [(f"mount target  {one.id}", one.state) for one in there]

    async def _coming(self, begun: dict[str, Step]) -> States:
        """Takes out of `begun` what is there; what is not yet, and its state."""
        present = {one.id: one for one in await self._targets()}
        states = {id_: present[id_].state if id_ in present else "not known yet" for id_ in begun}
        for id_, state in states.items():
            if state in USABLE:
                self._done(begun.pop(id_), id_, state)
            elif state == "error":
                why = f"{id_} is in the state error: `kip efs teardown`, then setup again"
                self._failed(begun.pop(id_), Unfinished(why))
        return [(shown(step, id_), states[id_]) for id_, step in begun.items()]

    async def _targets(self) -> Sequence[MountTarget]:
        return await self._places.efs.mount_targets(self._system)

    def _done(self, step: Step, id_: str, state: str = "") -> None:
        self._tell("  ".join(filter(None, (shown(step, id_), _WORDS[step.action], state))))
        self._outcome.done.append(at(step, id_, state))

    def _skipped(self, step: Step, why: str) -> None:
        self._outcome.skipped.append((step, why))
        self._tell(f"{shown(step)}  left out: {why}")

    def _failed(self, step: Step, error: Exception) -> None:
        self._outcome.failed.append((step, reason(error)))
        self._tell(f"{shown(step)}  not done: {reason(error)}")
