"""What a cell is there for now: a pure decision over the Cell, its pod and its instance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from kip.model.cell import DRAINED, SERVING, TERMINATED, Cell
from kip.model.clock import from_rfc3339
from kip.model.conditions import Condition
from kip.pods.finished import is_finished

# A deleted pod's deletionTimestamp already contains its grace period. The kubelet then still kills, unmounts and
# reports; within 30 s on an ordinary node (Kubernetes' own e2e tests allow that much). After twice that the machine
# goes, and the pod with it.
DELETION_SLACK = timedelta(seconds=60)


@dataclass(frozen=True)
class Run:
    """Bring the cell to where its pod runs, and keep it there. `look_again_s`: when time alone may change the goal."""

    look_again_s: float | None = None


@dataclass(frozen=True)
class Relaunch:
    """The machine is gone, but the pod has not begun on it: take another one."""

    reason: str
    message: str


@dataclass(frozen=True)
class End:
    """Take the cell away."""

    reason: str
    message: str
    keep_logs: bool = False
    """The pod has ended and its object stays: its logs must outlive the machine."""
    remove_pod: bool = False
    """Nobody else will: the pod is marked for deletion, and no kubelet is left to confirm its end."""
    fail_pod: bool = False
    """The pod was running and its machine is gone: say so in its status, so that controllers replace it."""


Goal = Run | Relaunch | End


def decide(
    cell: Cell,
    pod: Mapping[str, Any] | None,
    *,
    instance_gone: str | None,
    now: datetime,
    out_of_reach: str | None = None,
) -> Goal:
    """The goal of this cell. `instance_gone` is why its instance no longer exists, None as far as is known;
    `out_of_reach` why the machine of a pod that has begun is waited for no longer."""
    if pod is None:
        return End("PodGone", "the pod no longer exists")
    has_run = served(cell, pod)
    leaving = bool(pod["metadata"].get("deletionTimestamp"))
    if is_finished(pod):
        return End("PodFinished", "the pod has ended", keep_logs=True, remove_pod=leaving)
    begun = _begun(cell)
    if begun is not None:
        # Never undone, and told with the words of those who began it, even by another process.
        return _end(begun.reason, begun.message, leaving=leaving, has_run=has_run)
    if cell.deleting:
        # A pod that has not begun gets another cell.
        return _end("CellDeleted", "the Cell object was deleted", leaving=leaving, has_run=has_run)
    if instance_gone is not None:
        message = f"instance {cell.instance_id} is gone: {instance_gone}"
        if leaving or has_run:
            return _end("InstanceGone", message, leaving=leaving, has_run=has_run)
        return Relaunch("InstanceGone", message)
    if out_of_reach is not None:
        return _end("CellUnreachable", out_of_reach, leaving=leaving, has_run=has_run)
    if leaving:
        return _while_leaving(pod, has_run=has_run, now=now)
    return Run()


def _begun(cell: Cell) -> Condition | None:
    """The condition that says why the cell ends, if it does: Terminated may by now tell what is in the way."""
    drained, terminated = cell.conditions.get(DRAINED), cell.conditions.get(TERMINATED)
    return drained if drained is not None and drained.is_true else terminated or drained


def served(cell: Cell, pod: Mapping[str, Any]) -> bool:
    """Has the pod begun on this cell, so that it must not be begun on another?

    A kubelet that has reported on it counts, even if the operator was not quick enough to note that it serves.
    """
    reported = bool((pod.get("status") or {}).get("containerStatuses"))
    return cell.pod_may_run and (cell.conditions.get(SERVING) is not None or reported)


def _end(reason: str, message: str, *, leaving: bool, has_run: bool) -> End:
    return End(reason, message, remove_pod=leaving, fail_pod=has_run and not leaving)


def _while_leaving(pod: Mapping[str, Any], *, has_run: bool, now: datetime) -> Goal:
    """A pod marked for deletion: its kubelet ends it, unless it never got one or takes too long."""
    if not has_run:
        return End("PodDeleted", "the pod was deleted before it started", remove_pod=True)
    left = from_rfc3339(pod["metadata"]["deletionTimestamp"]) + DELETION_SLACK - now
    if left > timedelta(0):
        return Run(look_again_s=left.total_seconds())
    message = f"the pod did not end within its grace period and {DELETION_SLACK.total_seconds():.0f} s"
    return End("DeletionOverdue", message, remove_pod=True)
