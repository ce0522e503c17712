"""Before there is a Cell: is the pod ours to serve, and does any machine fit it?"""

from __future__ import annotations

from collections.abc import Callable

from kip.cells.launch import NoOffer, Planner
from kip.cells.stages import Pod, Tools, since_created_s
from kip.cloud.errors import CloudError
from kip.model.cell import Cell
from kip.model.names import cell_name
from kip.model.outcome import Outcome, Stop, Wait
from kip.pods.annotations import Layer, unknown, without_effect
from kip.pods.finished import is_finished

# The catalogue, prices and permissions change rarely; a pod that cannot be served is looked at again this often.
_LOOK_AGAIN_S = 60.0
# AWS could not be asked where cells go.
_ASK_AGAIN_S = 15.0

Refusal = tuple[str, str]
"""(reason, message) for an event and the pod's status."""


class Admit:
    """Pod → Cell."""

    def __init__(
        self,
        tools: Tools,
        planner: Planner,
        refuse: Callable[[Pod], Refusal | None],
        *,
        defaults: Callable[[Pod], tuple[Layer, ...]] = lambda pod: (),
    ) -> None:
        """`defaults` are the annotations that count for those that a pod lacks."""
        self._tools = tools
        self._planner = planner
        self._refuse = refuse
        self._defaults = defaults

    async def __call__(self, pod: Pod) -> tuple[Cell | None, Outcome]:
        """The pod's new Cell, or None and what happens instead."""
        report = self._tools.report
        status = pod.get("status") or {}
        if cell_name(pod["metadata"]["uid"]) in self._tools.cells.unreadable:
            return None, await self._wait_for_repair(pod)
        if pod["metadata"].get("deletionTimestamp"):
            # Before all that follows: no kubelet is left that could confirm the end, be the pod new, ended or lost.
            await report.remove(pod)
            return None, Stop("the pod is deleted and has no cell")
        if is_finished(pod):
            return None, Stop("the pod has ended")
        if status.get("containerStatuses") and status.get("phase") == "Running":
            message = "the pod was running on a cell that no longer exists"
            await report.failed(pod, "CellLost", message)
            return None, Stop(message)
        refusal = self._refuse(pod)
        if refusal is not None:
            await report.problem(pod, *refusal)
            return None, Stop(refusal[0])
        left_s = self._tools.rests.left_s(pod["metadata"]["uid"])
        if left_s > 0:
            return None, Wait(left_s, "resting after a refusal of AWS")
        try:
            await self._planner.foresee(pod)
        except NoOffer as error:
            await report.problem(pod, error.reason, str(error))
            return None, Wait(_LOOK_AGAIN_S, error.reason)
        except CloudError as error:
            self._tools.rests.begin(pod["metadata"]["uid"], _ASK_AGAIN_S)
            await report.problem(pod, error.reason, error.summary)
            return None, Wait(_ASK_AGAIN_S, error.reason)
        cell = await self._tools.cells.create(pod)
        if cell is None:
            return None, await self._wait_for_repair(pod)
        self._tools.observe("cell_created", since_created_s(pod, self._tools.clock))
        for sentence in without_effect(pod):
            await report.progress(pod, "AnnotationWithoutEffect", sentence)
        for sentence in unknown(pod, self._defaults(pod)):
            await report.warning(pod, "UnknownAnnotation", sentence)
        return cell, Stop()

    async def _wait_for_repair(self, pod: Pod) -> Outcome:
        """The pod has a Cell, written by another version of Kip or a person: its machine may run, and the pod on it."""
        name = cell_name(pod["metadata"]["uid"])
        message = f"its Cell {name} cannot be read; until its status is repaired pod and machine are left as they are"
        await self._tools.report.warning(pod, "CellUnreadable", message)
        return Wait(_LOOK_AGAIN_S, "CellUnreadable")
