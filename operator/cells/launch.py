"""Stage: the pod gets a machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

import structlog

from kip.cells.launcher import Launcher, LaunchFailed
from kip.cells.refusal import Then, Verdict, judge, rest_s
from kip.cells.relaunch import retry_delay_s
from kip.cells.spec import LaunchSpec
from kip.cells.stages import Pod, Step, Tools, since_created_s
from kip.cloud.base import Instance
from kip.cloud.errors import CloudError, InvalidRequest, NotAuthorized, NotFound
from kip.kube.slots import patiently
from kip.model.cell import LAUNCHED, Cell, Intent
from kip.model.outcome import DONE, Wait
from kip.model.requirements import LaunchType

log = structlog.get_logger(__name__)

# A pod for which there is no machine: somebody must change the pod, the configuration, or end another machine.
_NO_OFFER_S = 30.0
# For what comes next at once; the Cell is written in between.
_AT_ONCE_S = 0.05
# An instance of a launch that cannot be repeated shows in DescribeInstances within seconds. AWS promises no number; if
# it took longer, the sweep would end it, because no Cell claims it.
_VISIBLE_AFTER_S = 15.0


# Somebody has to change something: the pod, the configuration, or what there is in AWS.
_FOR_PEOPLE = (InvalidRequest, NotFound, NotAuthorized)


class NoOffer(Exception):
    """No machine can be chosen for this pod; the text says why, for people."""

    def __init__(self, message: str, *, reason: str = "NoInstanceFits") -> None:
        super().__init__(message)
        self.reason = reason


class Planner(Protocol):
    """Chooses machines (kip.cells.plan)."""

    async def plan(self, pod: Pod) -> tuple[LaunchSpec, ...]:
        """What to ask EC2 for, best first; raises NoOffer, CloudError, KubeError."""
        ...

    async def foresee(self, pod: Pod) -> None:
        """Is there a machine for this pod? The plan is kept for the launch that follows; raises what `plan` raises."""
        ...

    async def replan(self, pod: Pod, intent: Intent) -> LaunchSpec | None:
        """The request that led to this intent, if it can still be made in the same way; raises CloudError."""
        ...

    def unavailable(self, spec: LaunchSpec, error: CloudError) -> None:
        """EC2 gives none of these now: leave them out for a while."""
        ...

    def left_out(self, spec: LaunchSpec) -> bool:
        """Was this refused lately, to whomever?"""
        ...

    def forget_site(self) -> None:
        """A subnet, group or image that EC2 was asked for does not exist: look again before the next plan."""
        ...

    def price(self, instance_type: str, zone: str, launch_type: LaunchType) -> str | None:
        """US dollars an hour as text; None when it is not known."""
        ...


class Launch:
    """→ Launched."""

    def __init__(
        self,
        tools: Tools,
        launcher: Launcher,
        planner: Planner,
        tags: Callable[[Pod], Mapping[str, str]] = lambda pod: {},
    ) -> None:
        """`tags` are what an instance should say of its pod (kip.cells.tags)."""
        self._tools = tools
        self._tags = tags
        self._launcher = launcher
        self._planner = planner

    async def __call__(self, cell: Cell, pod: Pod) -> Step:
        if cell.instance_id is not None:
            return cell, DONE
        rests = self._tools.rests
        if (left_s := max(rests.left_s(cell.name), rests.left_s(_as_asked(cell, pod)))) > 0:
            return cell, Wait(left_s, "resting after a refusal of EC2")
        try:
            if cell.intent is not None:
                return await self._resume(cell, pod, cell.intent)
            return await self._launch(cell, pod)
        except NoOffer as error:
            return await self._refused(cell, pod, error.reason, str(error), _NO_OFFER_S)
        except CloudError as error:
            # Of a look at what there is; nothing was asked for.
            return await self._resting(cell, pod, error, rest_s(error), error.summary)

    async def _launch(self, cell: Cell, pod: Pod) -> Step:
        """Try the offers, best first, until EC2 gives one."""
        tools = self._tools
        if cell.attempt >= tools.settings.max_attempts:
            left = self._until_retry_s(cell)
            if left > 0:
                return cell, Wait(left, "resting after too many attempts")
        specs = await self._planner.plan(pod)
        tools.observe("launch_requested", since_created_s(pod, tools.clock))
        refused: list[tuple[LaunchSpec, CloudError]] = []
        for spec in specs:
            cell, answer = await self._ask(cell, pod, spec)
            if isinstance(answer, Instance):
                return await self._launched(cell, pod, answer, _why(spec, refused))
            if answer is not None:
                if self._judge(cell, answer).then is not Then.NEXT_OFFER:
                    return await self._after(cell, pod, spec, answer)
                self._planner.unavailable(spec, answer)
                refused.append((spec, answer))
            # The token is spent on an answer without an instance for this cell; the next offer is another launch.
            cell = replace(cell, intent=None)
        if not refused:
            return cell, Wait(_AT_ONCE_S, "EC2 gave others what there was")
        last = refused[-1][1]
        return await self._resting(cell, pod, last, rest_s(last), _all_refused(refused))

    async def _ask(self, cell: Cell, pod: Pod, spec: LaunchSpec) -> tuple[Cell, Instance | CloudError | None]:
        """One offer, for ever fewer cells at once while EC2 refuses them as a whole.

        Returns the instance, or what speaks against the offer; None if it went to others, or was refused to others.
        """
        error: CloudError | None = None
        while not self._planner.left_out(spec):
            try:
                return await self._launcher.launch(cell, spec, self._tags(pod))
            except LaunchFailed as failed:
                cell, error = failed.cell, self._refusal(failed)
            verdict = self._judge(cell, error)
            if verdict.then is not Then.SMALLER or verdict.rest_s:
                break
            cell = replace(cell, intent=None)
        return cell, error

    async def _resume(self, cell: Cell, pod: Pod, intent: Intent) -> Step:
        spec = await self._planner.replan(pod, intent)
        try:
            found = await self._launcher.resume(cell, spec)
        except LaunchFailed as failed:
            return await self._after(failed.cell, pod, spec, self._refusal(failed))
        if found.instance is not None:
            return await self._launched(cell, pod, found.instance)
        age_s = (self._tools.clock.now() - intent.requested_at).total_seconds()
        if not found.sure and age_s < _VISIBLE_AFTER_S:
            return cell, Wait(_VISIBLE_AFTER_S - age_s, "looking for the instance of an interrupted launch")
        return replace(cell, intent=None, attempt=cell.attempt + 1), Wait(
            _AT_ONCE_S, "the launch brought no instance"
        )

    def _refusal(self, failed: LaunchFailed) -> CloudError:
        """What EC2 has answered, counted; raises any other error."""
        if not isinstance(failed.error, CloudError):
            raise failed.error from failed
        self._tools.count_launch(result="error", reason=failed.error.reason)
        return failed.error

    def _judge(self, cell: Cell, error: CloudError) -> Verdict:
        count = cell.intent.count if cell.intent else 0
        return judge(error, count=count, throttled=self._launcher.throttled(cell))

    async def _after(self, cell: Cell, pod: Pod, spec: LaunchSpec | None, error: CloudError) -> Step:
        """What kip.cells.refusal says to do about it."""
        verdict = self._judge(cell, error)
        if verdict.then is not Then.REPEAT:
            cell = replace(cell, intent=None)
        if verdict.forget_site:
            self._planner.forget_site()
        if verdict.then is Then.NEXT_OFFER and spec is not None:
            self._planner.unavailable(spec, error)
            return cell, Wait(_AT_ONCE_S, "trying the next offer")
        if not verdict.rest_s:
            return cell, Wait(_AT_ONCE_S, "asking for fewer at once")
        return await self._resting(cell, pod, error, verdict.rest_s, _blamed(error, spec))

    async def _resting(self, cell: Cell, pod: Pod, error: CloudError, delay_s: float, message: str) -> Step:
        # Who mends the pod need not wait until the rest is over.
        key = _as_asked(cell, pod) if isinstance(error, _FOR_PEOPLE) else cell.name
        self._tools.rests.begin(key, delay_s)
        log.warning("no machine", cell=cell.name, error=str(error), retry_s=delay_s)
        return await self._refused(cell, pod, error.reason, message, delay_s)

    async def _launched(self, cell: Cell, pod: Pod, instance: Instance, why: str = "") -> Step:
        """`why` is how the machine was chosen; a process that finds a launch of another one does not know it."""
        tools = self._tools
        now = tools.clock.now()
        tools.fleet.note(instance)
        cell = replace(
            cell,
            instance_id=instance.id,
            instance_type=instance.instance_type,
            market=instance.launch_type,
            zone=instance.zone,
            address=instance.private_ip,
            pod_ip=instance.pod_ip,
            price=self._planner.price(instance.instance_type, instance.zone, instance.launch_type),
        )
        what = f"{instance.launch_type} instance {instance.id} ({instance.instance_type}, {instance.zone})"
        price = f", ${cell.price} an hour" if cell.price else ""
        told = "; ".join(filter(None, (f"launched {what}{price}", why)))
        cell = cell.set(LAUNCHED, "True", "Launched", told, now=now)
        # The machine boots for seconds, and its intent leads to it: pods that have asked for none yet come first.
        with patiently():
            cell = await tools.cells.save(cell)
        tools.observe("launched", since_created_s(pod, tools.clock))
        tools.count_launch(result="ok")
        await tools.report.solved(pod)
        await tools.report.progress(pod, "CellLaunched", told)
        return cell, DONE

    async def _refused(self, cell: Cell, pod: Pod, reason: str, message: str, delay_s: float) -> Step:
        message = f"{message}; next try in {delay_s:g} s"
        await self._tools.report.problem(pod, reason, message)
        cell = cell.set(LAUNCHED, "False", reason, message, now=self._tools.clock.now())
        return cell, Wait(delay_s, reason)

    def _until_retry_s(self, cell: Cell) -> float:
        since = cell.conditions.since(LAUNCHED)
        if since is None:
            return 0.0
        waited = (self._tools.clock.now() - since).total_seconds()
        return retry_delay_s(self._tools, cell) - waited


def _as_asked(cell: Cell, pod: Pod) -> str:
    """The cell, and what of its pod people can still change about the request."""
    annotations = pod["metadata"].get("annotations") or {}
    return f"{cell.name} {sorted(annotations.items())}"


def _why(spec: LaunchSpec, refused: list[tuple[LaunchSpec, CloudError]]) -> str:
    """How this offer was come to, for people."""
    return "; ".join(filter(None, (spec.why, f"refused were {_tried(refused)}" if refused else "")))


def _blamed(error: CloudError, spec: LaunchSpec | None) -> str:
    """What is wrong with a request may be nothing that the pod's owner has ever written."""
    if not isinstance(error, _FOR_PEOPLE) or spec is None or not spec.inherited:
        return error.summary
    return f"{error.summary} (not the pod's own: {'; '.join(spec.inherited)})"


def _tried(refused: list[tuple[LaunchSpec, CloudError]]) -> str:
    return "; ".join(f"{spec}: {error.code or error.reason}" for spec, error in refused)


def _all_refused(refused: list[tuple[LaunchSpec, CloudError]]) -> str:
    """For people: what was tried, in the words of AWS for the last one."""
    return f"{refused[-1][1].summary}; tried were {_tried(refused)}"
