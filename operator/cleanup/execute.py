"""Removing it: each thing by itself, so that one refusal keeps no other from going; may be repeated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from kip.cells.repository import CELLS_PATH
from kip.cleanup.look import Places
from kip.cleanup.plan import Kind, Plan, Step, by_kind
from kip.cloud.errors import CloudError
from kip.kube.errors import KubeError, NotFound
from kip.model.names import CELL_FINALIZER

_LOOK_AGAIN_S = 2.0


@dataclass
class Outcome:
    """What went and what did not."""

    done: list[Step] = field(default_factory=list)
    failed: list[tuple[Step, str]] = field(default_factory=list)

    def left(self, *kinds: Kind) -> bool:
        """Is anything of these kinds not removed?"""
        return any(step.kind in kinds for step, _ in self.failed)


class Cleanup:
    """Carries a plan out."""

    def __init__(self, places: Places, *, tell: Callable[[str], None], timeout_s: float) -> None:
        """`tell` gets a line for each thing that has happened; `timeout_s` is for what has to be waited for."""
        self._places = places
        self._tell = tell
        self._timeout_s = timeout_s
        self._outcome = Outcome()

    async def run(self, plan: Plan) -> Outcome:
        """Everything, in order. What depends on something that did not go is left, and said to be."""
        steps, outcome = by_kind(plan.steps), self._outcome
        for step in steps.get("route", ()):
            await self._try(step, partial(self._places.routing.delete_route, step.within, step.name))
        await self._end_instances(steps.get("instance", ()))
        for step in steps.get("cell", ()):
            if outcome.left("route", "instance"):
                self._failed(
                    step, "left, because it knows of routes or instances that are not gone: run again"
                )
            else:
                await self._try(step, partial(self._remove_cell, step.name))
        for step in (*steps.get("node", ()), *steps.get("lease", ())):
            await self._try(step, partial(self._delete, _path(step)))
        for step in steps.get("secret", ()):
            if outcome.left("instance", "cell"):
                self._failed(
                    step, "left, because with it machines that are not gone can still be reached: run again"
                )
            else:
                await self._try(step, partial(self._delete, _path(step)))
        for step in steps.get("security group", ()):
            await self._try(step, partial(self._delete_group, step.name))
        return outcome

    async def _try(self, step: Step, remove: Callable[[], Awaitable[object]]) -> None:
        try:
            await remove()
        except (CloudError, KubeError) as error:
            self._failed(step, error.summary if isinstance(error, CloudError) else str(error))
        else:
            self._outcome.done.append(step)
            self._tell(f"removed {step.kind} {step.name}")

    def _failed(self, step: Step, why: str) -> None:
        self._outcome.failed.append((step, why))
        self._tell(f"not removed: {step.kind} {step.name}: {why}")

    async def _end_instances(self, steps: Sequence[Step]) -> None:
        """All at once, and then wait: an interface, and with it the use of a security group, ends with its machine."""
        if not steps:
            return
        left = {step.name: step for step in steps}
        why = ""
        try:
            await self._places.compute.terminate(list(left))
            self._tell(f"ending {len(left)} instances")
            why = await self._wait_until_ended(left)
        except CloudError as error:
            why = error.summary
        for step in left.values():
            self._failed(step, why)

    async def _wait_until_ended(self, left: dict[str, Step]) -> str:
        """Takes out of `left` what has ended; why something is left in the end."""
        clock = self._places.clock
        until, told = clock.monotonic() + self._timeout_s, ""
        while True:
            states = {i.id: i.state for i in await self._places.compute.describe_ids(list(left))}
            for id_ in [id_ for id_ in left if states.get(id_, "terminated") == "terminated"]:
                self._outcome.done.append(left.pop(id_))
            if not left:
                self._tell("all instances have ended")
                return ""
            counts = Counter(states[id_] for id_ in left)
            progress = ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))
            if progress != told:
                self._tell(f"waiting for instances: {progress}")
                told = progress
            if clock.monotonic() >= until:
                return f"not ended within {self._timeout_s:g} s"
            await clock.sleep(_LOOK_AGAIN_S)

    async def _remove_cell(self, name: str) -> None:
        """Kip's finalizer goes first, and only that: whoever would have taken it off is no more."""
        path = f"{CELLS_PATH}/{name}"
        try:
            metadata = (await self._places.api.get(path))["metadata"]
            kept = [f for f in metadata.get("finalizers") or () if f != CELL_FINALIZER]
            patch = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": kept}}
            await self._places.api.patch(path, patch)
        except NotFound:
            return
        await self._delete(path)

    async def _delete(self, path: str) -> None:
        try:
            await self._places.api.delete(path, {"propagationPolicy": "Background"})
        except NotFound:
            pass

    async def _delete_group(self, group_id: str) -> None:
        """EC2 may believe for some seconds after an instance's end that its interface is still there."""
        clock = self._places.clock
        until = clock.monotonic() + (0 if self._outcome.left("instance") else self._timeout_s)
        told = False
        while True:
            try:
                await self._places.network.delete_security_group(group_id)
            except CloudError as error:
                if error.code != "DependencyViolation" or clock.monotonic() >= until:
                    raise
                await self._not_if_named(group_id, error)
                if not told:
                    self._tell(f"waiting: security group {group_id} is still in use")
                    told = True
                await clock.sleep(_LOOK_AGAIN_S)
            else:
                return

    async def _not_if_named(self, group_id: str, error: CloudError) -> None:
        """A rule of another group does not pass as an interface does: raises what says so."""
        naming = await self._places.network.groups_naming(group_id)
        if naming:
            others = ", ".join(f"{group.id} ({group.name})" for group in naming)
            raise CloudError(f"rules of {others} name it", action=error.action, code=error.code) from error


def _path(step: Step) -> str:
    if step.kind == "node":
        return f"/api/v1/nodes/{step.name}"
    if step.kind == "secret":
        return f"/api/v1/namespaces/{step.within}/secrets/{step.name}"
    return f"/apis/coordination.k8s.io/v1/namespaces/{step.within}/leases/{step.name}"
