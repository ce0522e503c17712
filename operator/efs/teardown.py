"""Taking it down: each thing by itself, so that one refusal keeps no other from going; may be repeated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from functools import partial

from kip.cloud.errors import CloudError
from kip.efs.look import Places
from kip.efs.plan import Plan, Step
from kip.efs.waiting import Outcome, States, Unfinished, Waiting, reason, shown


class Teardown:
    """Carries a removal out."""

    def __init__(self, places: Places, *, tell: Callable[[str], None], timeout_s: float) -> None:
        """As `kip.efs.setup.Setup`."""
        self._places = places
        self._tell = tell
        self._wait = Waiting(places.clock, tell=tell, timeout_s=timeout_s)
        self._outcome = Outcome()

    async def run(self, plan: Plan) -> Outcome:
        """Everything, in order; what depends on something that did not go is left, and said to be."""
        await self._mount_targets([step for step in plan.steps if step.kind == "mount target"])
        for step in plan.steps:
            if step.kind == "file system":
                await self._try(step, partial(self._file_system, step.id))
            elif step.kind == "mount targets' group":
                await self._try(step, partial(self._group, step.id))
        return self._outcome

    async def _try(self, step: Step, remove: Callable[[], Awaitable[None]]) -> None:
        if any(failed.kind == "mount target" for failed, _ in self._outcome.failed):
            self._failed(step, Unfinished("left, because a mount target is not gone: run again"))
            return
        try:
            await remove()
        except (CloudError, Unfinished) as error:
            self._failed(step, error)
        else:
            self._done(step)

    async def _mount_targets(self, steps: Collection[Step]) -> None:
        """All at once, and then wait: a file system cannot go before them."""
        left = {step.id: step for step in steps}
        for step in steps:
            try:
                if step.state != "deleting":
                    await self._wait.patiently(partial(self._places.efs.delete_mount_target, step.id))
            except CloudError as error:
                self._failed(left.pop(step.id), error)
        try:
            await self._wait.until(lambda: self._going(left))
        except (CloudError, Unfinished) as error:
            for step in left.values():
                self._failed(step, error)

    async def _going(self, left: dict[str, Step]) -> States:
        """Takes out of `left` what is gone; what is not, and its state."""
        systems = sorted({step.file_system_id for step in left.values()})
        states = {one.id: one.state for id_ in systems for one in await self._places.efs.mount_targets(id_)}
        for id_ in [id_ for id_ in left if id_ not in states]:
            self._done(left.pop(id_))
        return [(shown(step), states[id_]) for id_, step in left.items()]

    async def _file_system(self, id_: str) -> None:
        await self._wait.patiently(partial(self._places.efs.delete_file_system, id_))

        async def look() -> States:
            found = [one for one in await self._places.efs.file_systems() if one.id == id_]
            return [(f"file system  {id_}", one.state) for one in found if one.state != "deleted"]

        await self._wait.until(look)

    async def _group(self, id_: str) -> None:
        """EC2 may believe for some seconds after a mount target's end that its interface is still there."""

        async def look() -> States:
            try:
                await self._places.network.delete_security_group(id_)
            except CloudError as error:
                if error.code != "DependencyViolation":
                    raise
                return [(f"security group  {id_}", "still in use")]
            return []

        await self._wait.until(look)

    def _done(self, step: Step) -> None:
        self._outcome.done.append(step)
        self._tell(f"{shown(step)}  removed")

    def _failed(self, step: Step, error: Exception) -> None:
        self._outcome.failed.append((step, reason(error)))
        self._tell(f"{shown(step)}  not removed: {reason(error)}")
