"""One pass over one pod and its cell: decide what it is there for, run the stages in order, write the result once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import structlog

from kip.cells.admit import Admit
from kip.cells.connect import Connect, out_of_reach
from kip.cells.drain import Drain
from kip.cells.goal import End, Relaunch, Run, decide
from kip.cells.launch import Launch
from kip.cells.relaunch import give_up
from kip.cells.routes import Routes
from kip.cells.serve import Serve
from kip.cells.stages import Pod, Stage, Step, Tools, since_created_s
from kip.cells.terminate import Terminate
from kip.kube.errors import Conflict, NotFound
from kip.model.backoff import Backoff
from kip.model.cell import Cell
from kip.model.outcome import DONE, Done, Outcome, Stop, Wait

log = structlog.get_logger(__name__)

# A Cell that was changed by somebody else is looked at again at once; one that seems to change for ever is not.
_CHANGED = Backoff(first_s=0.05, limit_s=10.0)


class Pods(Protocol):
    """The pods of this virtual node, as far as they are known."""

    synced: bool

    def get(self, uid: str) -> Mapping[str, Any] | None: ...


class Lifecycle:
    """Level-based: every pass starts from what is, whatever happened before."""

    def __init__(
        self,
        tools: Tools,
        pods: Pods,
        *,
        admit: Admit,
        launch: Launch,
        connect: Connect,
        serve: Serve,
        routes: Routes,
        drain: Drain,
        terminate: Terminate,
        may_write: Callable[[], bool],
    ) -> None:
        """`may_write` is false once the node's Lease may be somebody else's."""
        self._tools = tools
        self._pods = pods
        self._admit = admit
        self._stages: tuple[Stage, ...] = (launch, connect, serve, routes)
        self._drain = drain
        self._terminate = terminate
        self._may_write = may_write
        self._not_running: set[str] = set()
        self._conflicts: dict[str, int] = {}

    async def reconcile(self, pod_uid: str) -> Outcome:
        """One pass; returns when to look again. Raises what the queue should back off from."""
        if not self._may_write():
            return Stop("the node's Lease is not ours")
        if not (self._pods.synced and self._tools.cells.synced):
            return Wait(0.1, "the first lists are under way")
        pod, cell = self._pods.get(pod_uid), self._tools.cells.get(pod_uid)
        if cell is None:
            if pod is None:
                self._not_running.discard(pod_uid)
                return Stop("nothing is left")
            cell, outcome = await self._admit(pod)
            if cell is None:
                return outcome
        try:
            outcome = await self._pursue(cell, pod)
        except (Conflict, NotFound) as error:
            # The Cell was changed or deleted by somebody meanwhile: look at it afresh.
            log.info("cell changed meanwhile", cell=cell.name, error=str(error))
            conflicts = self._conflicts[pod_uid] = self._conflicts.get(pod_uid, 0) + 1
            await self._tools.cells.refresh()
            return Wait(_CHANGED.delay_s(conflicts - 1), "changed meanwhile")
        self._conflicts.pop(pod_uid, None)
        return outcome

    async def _pursue(self, cell: Cell, pod: Pod | None) -> Outcome:
        tools = self._tools
        goal = decide(
            cell,
            pod,
            instance_gone=tools.fleet.why_gone(cell),
            now=tools.clock.now(),
            out_of_reach=None if pod is None else out_of_reach(tools, cell, pod),
        )
        match goal:
            case End():
                after, outcome = await self._end(cell, pod, goal)
            case Relaunch(reason, message) if pod is not None:
                after, outcome = await give_up(tools, cell, pod, reason, message)
            case Run(look_again_s) if pod is not None:
                after, outcome = await self._run(cell, pod)
                if look_again_s is not None and not (
                    isinstance(outcome, Wait) and outcome.seconds < look_again_s
                ):
                    outcome = Wait(look_again_s, "the pod is being deleted")
            case _:
                return Stop("no pod")
        known = tools.cells.get(cell.pod_uid)
        if known is not None and after.status() != known.status():
            await tools.cells.save(after)
        return outcome

    async def _run(self, cell: Cell, pod: Pod) -> Step:
        self._observe_running(pod)
        for stage in self._stages:
            cell, outcome = await stage(cell, pod)
            if not isinstance(outcome, Done):
                return cell, outcome
        return cell, DONE

    async def _end(self, cell: Cell, pod: Pod | None, goal: End) -> Step:
        cell, outcome = await self._drain(cell, pod, goal)
        if not isinstance(outcome, Done):
            return cell, outcome
        return await self._terminate(cell, pod, goal)

    def _observe_running(self, pod: Pod) -> None:
        """Once for each pod that this process has seen start; one that ran before is no news."""
        uid = pod["metadata"]["uid"]
        if (pod.get("status") or {}).get("phase") != "Running":
            self._not_running.add(uid)
        elif uid in self._not_running:
            self._not_running.discard(uid)
            self._tools.observe("running", since_created_s(pod, self._tools.clock))
