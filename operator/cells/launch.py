"""Stage: the pod gets a machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import structlog

from kip.cells.launcher import Launcher, LaunchFailed, LaunchSpec
from kip.cells.relaunch import retry_delay_s
from kip.cells.stages import Pod, Step, Tools, since_created_s
from kip.cloud.base import Instance, Market
from kip.cloud.errors import (
    CloudError,
    InsufficientCapacity,
    InvalidRequest,
    NotAuthorized,
    NotFound,
    QuotaExceeded,
    Throttled,
    Unreachable,
)
from kip.model.cell import LAUNCHED, Cell, Intent
from kip.model.outcome import DONE, Wait

log = structlog.get_logger(__name__)

# How long to wait before the same thing is tried again, in seconds: by what the error says must change first.
_RETRY_S: dict[type[CloudError], float] = {
    Unreachable: 2.0,  # the network
    Throttled: 1.0,  # the token bucket (RunInstances refills 2 a second)
    InsufficientCapacity: 15.0,  # somebody else's instance must end; the offers are remembered as short for three minutes
    QuotaExceeded: 30.0,  # one of this account's instances must end
    NotAuthorized: 20.0,  # a person must change a policy, and looks whether that was it
    InvalidRequest: 60.0,  # a person must change the configuration
    NotFound: 20.0,  # a person must bring an image, a subnet
}
_DEFAULT_RETRY_S = 15.0

# An instance of a launch that cannot be repeated shows in DescribeInstances within seconds. AWS promises no number; if
# it took longer, the sweep would end it, because no Cell claims it.
_VISIBLE_AFTER_S = 15.0


class NoOffer(Exception):
    """No machine can be chosen for this pod; the text says why, for people."""

    def __init__(self, message: str, *, reason: str = "NoInstanceFits") -> None:
        super().__init__(message)
        self.reason = reason


class Planner(Protocol):
    """Chooses machines (kip.cells.plan)."""

    async def plan(self, pod: Pod) -> tuple[LaunchSpec, ...]:
        """What to ask EC2 for, best first; raises NoOffer, CloudError."""
        ...

    async def replan(self, pod: Pod, intent: Intent) -> LaunchSpec | None:
        """The request that led to this intent, if it can still be made in the same way; raises CloudError."""
        ...

    def unavailable(self, spec: LaunchSpec, error: InsufficientCapacity) -> None:
        """EC2 has none of these now: leave them out for a while."""
        ...

    def price(self, instance_type: str, market: Market) -> str | None:
        """US dollars an hour as text; None when it is not known."""
        ...


class Launch:
    """→ Launched."""

    def __init__(self, tools: Tools, launcher: Launcher, planner: Planner) -> None:
        self._tools = tools
        self._launcher = launcher
        self._planner = planner

    async def __call__(self, cell: Cell, pod: Pod) -> Step:
        if cell.instance_id is not None:
            return cell, DONE
        left_s = self._tools.rests.left_s(cell.name)
        if left_s > 0:
            return cell, Wait(left_s, "resting after a refusal of EC2")
        try:
            if cell.intent is not None:
                return await self._resume(cell, pod, cell.intent)
            return await self._launch(cell, pod)
        except NoOffer as error:
            return await self._refused(cell, pod, error.reason, str(error), _RETRY_S[QuotaExceeded])
        except CloudError as error:
            return await self._resting(cell, pod, error)

    async def _launch(self, cell: Cell, pod: Pod) -> Step:
        """Try the offers, best first, until EC2 has one."""
        tools = self._tools
        if cell.attempt >= tools.settings.max_attempts:
            left = self._until_retry_s(cell)
            if left > 0:
                return cell, Wait(left, "resting after too many attempts")
        specs = await self._planner.plan(pod)
        tools.observe("launch_requested", since_created_s(pod, tools.clock))
        short: InsufficientCapacity | None = None
        for spec in specs:
            try:
                cell, instance = await self._launcher.launch(cell, spec)
            except LaunchFailed as failed:
                cell = failed.cell
                if not isinstance(failed.error, CloudError):
                    raise failed.error from failed
                if not isinstance(failed.error, InsufficientCapacity):
                    return await self._failed(cell, pod, failed.error)
                short = failed.error
                self._planner.unavailable(spec, short)
            else:
                if instance is not None:
                    return await self._launched(cell, pod, instance)
            # The token is spent on an answer without an instance for this cell; the next offer is another launch.
            cell = replace(cell, intent=None)
        if short is None:
            return cell, Wait(0.05, "EC2 gave fewer instances than asked for")
        return await self._resting(cell, pod, short)

    async def _failed(self, cell: Cell, pod: Pod, error: CloudError) -> Step:
        """After an error whose effect is known the intent is taken back; otherwise it stays and is resumed."""
        if not isinstance(error, (Unreachable, Throttled)):
            cell = replace(cell, intent=None)
        return await self._resting(cell, pod, error)

    async def _resting(self, cell: Cell, pod: Pod, error: CloudError) -> Step:
        delay_s = next((s for kind, s in _RETRY_S.items() if isinstance(error, kind)), _DEFAULT_RETRY_S)
        self._tools.rests.begin(cell.name, delay_s)
        log.warning("no machine", cell=cell.name, error=str(error), retry_s=delay_s)
        return await self._refused(cell, pod, error.reason, error.summary, delay_s)

    async def _resume(self, cell: Cell, pod: Pod, intent: Intent) -> Step:
        spec = await self._planner.replan(pod, intent)
        try:
            instance = await self._launcher.resume(cell, spec)
        except (Unreachable, Throttled):
            raise
        except InsufficientCapacity as error:
            if spec is not None:
                self._planner.unavailable(spec, error)
            return replace(cell, intent=None), Wait(0.05, "trying the next offer")
        except CloudError as error:
            return await self._failed(cell, pod, error)
        if instance is not None:
            return await self._launched(cell, pod, instance)
        if not self._launcher.can_repeat(cell, spec):
            age_s = (self._tools.clock.now() - intent.requested_at).total_seconds()
            if age_s < _VISIBLE_AFTER_S:
                return cell, Wait(
                    _VISIBLE_AFTER_S - age_s, "looking for the instance of an interrupted launch"
                )
        return replace(cell, intent=None, attempt=cell.attempt + 1), Wait(
            0.05, "the launch brought no instance"
        )

    async def _launched(self, cell: Cell, pod: Pod, instance: Instance) -> Step:
        tools = self._tools
        now = tools.clock.now()
        tools.fleet.note(instance)
        cell = replace(
            cell,
            instance_id=instance.id,
            instance_type=instance.instance_type,
            market=instance.market,
            zone=instance.zone,
            address=instance.private_ip,
            pod_ip=instance.pod_ip,
            price=self._planner.price(instance.instance_type, instance.market),
        )
        cell = cell.set(LAUNCHED, "True", "Launched", f"EC2 instance {instance.id}", now=now)
        cell = await tools.cells.save(cell)
        tools.observe("launched", since_created_s(pod, tools.clock))
        await tools.report.solved(pod)
        what = f"{instance.market} instance {instance.id} ({instance.instance_type}, {instance.zone})"
        price = f", ${cell.price} an hour" if cell.price else ""
        await tools.report.progress(pod, "CellLaunched", f"launched {what}{price}")
        return cell, DONE

    async def _refused(self, cell: Cell, pod: Pod, reason: str, message: str, delay_s: float) -> Step:
        await self._tools.report.problem(pod, reason, message)
        cell = cell.set(LAUNCHED, "False", reason, message, now=self._tools.clock.now())
        return cell, Wait(delay_s, reason)

    def _until_retry_s(self, cell: Cell) -> float:
        since = cell.conditions.since(LAUNCHED)
        if since is None:
            return 0.0
        waited = (self._tools.clock.now() - since).total_seconds()
        return retry_delay_s(self._tools, cell) - waited
