"""Cells that want the same machine are launched by one RunInstances, and never twice.

EC2 admits five RunInstances calls at once and two a second after that, but a thousand instances in one call. So equal
launches that arrive within a short window share a call. Before it is made, the intent (its client token, the number of
instances, each cell's index among them) is written to every Cell of the group: a process that dies at any point is
followed by one that repeats the very same call and gets the very same instances, or that knows it was never made.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import structlog

from kip.cloud.base import Compute, Instance, LaunchRequest, Market
from kip.cloud.errors import TokenConflict, Unreachable
from kip.kube.errors import KubeError
from kip.model import names
from kip.model.cell import Cell, Intent
from kip.model.clock import Clock

log = structlog.get_logger(__name__)

# Karpenter's CreateFleet batcher waits 35 ms for the next request; ten of that bounds a steady trickle.
IDLE_WINDOW_S = 0.035
LONGEST_WINDOW_S = 0.35
MAX_BATCH = 1000


@dataclass(frozen=True)
class LaunchSpec:
    """Everything that the cells of one RunInstances call have in common."""

    instance_type: str
    market: Market
    subnet_id: str
    zone: str
    image_id: str
    root_device_name: str
    security_group_ids: tuple[str, ...]
    user_data: bytes
    root_volume_gib: int | None = None
    instance_profile: str | None = None
    associate_public_ip: bool | None = None
    hop_limit: int = 1

    def digest(self) -> str:
        """A short fingerprint of all of it: the same parameters, the same digest."""
        parts = (
            self.instance_type,
            self.market,
            self.subnet_id,
            self.image_id,
            self.root_device_name,
            ",".join(self.security_group_ids),
            str(self.root_volume_gib),
            str(self.instance_profile),
            str(self.associate_public_ip),
            str(self.hop_limit),
        )
        return hashlib.sha256("\0".join(parts).encode() + b"\0" + self.user_data).hexdigest()[:32]


class LaunchFailed(Exception):
    """A launch that brought no instance; `cell` is the Cell as it was last written, `error` says why."""

    def __init__(self, cell: Cell, error: Exception) -> None:
        super().__init__(str(error))
        self.cell = cell
        self.error = error


@dataclass
class _Waiting:
    cell: Cell
    answer: asyncio.Future[tuple[Cell, Instance | None]]


class Launcher:
    """Groups launches, writes intents, calls EC2, and tells each cell its instance."""

    def __init__(
        self,
        compute: Compute,
        clock: Clock,
        *,
        save: Callable[[Cell], Awaitable[Cell]],
        known: Callable[[], Iterable[Cell]],
        tags: Mapping[str, str],
        called: str = "Kip cell",
        idle_s: float = IDLE_WINDOW_S,
        longest_s: float = LONGEST_WINDOW_S,
    ) -> None:
        """`save` writes a Cell, `known` are all there are; `tags` say whose the instances are; `called` is their Name in
        EC2's console."""
        self._compute = compute
        self._clock = clock
        self._save = save
        self._known = known
        self._tags = dict(tags)
        self._called = called
        self._idle_s = idle_s
        self._longest_s = longest_s
        self._groups: dict[LaunchSpec, list[_Waiting]] = {}
        self._calls: dict[str, asyncio.Task[tuple[Instance, ...]]] = {}
        self._windows: set[asyncio.Task[None]] = set()

    async def launch(self, cell: Cell, spec: LaunchSpec) -> tuple[Cell, Instance | None]:
        """A new machine for this cell: the Cell with its intent, and the instance (None if EC2 gave fewer than asked).

        Raises LaunchFailed.
        """
        waiting = _Waiting(cell, asyncio.get_running_loop().create_future())
        group = self._groups.setdefault(spec, [])
        group.append(waiting)
        if len(group) == 1:
            window = asyncio.create_task(self._window(spec), name="launch window")
            self._windows.add(window)
            window.add_done_callback(self._windows.discard)
        return await waiting.answer

    def can_repeat(self, cell: Cell, spec: LaunchSpec | None) -> bool:
        """May the call of this cell's intent be made (again) as it was meant?

        Not with other parameters than those of the intent. And not unless every cell of the batch still has it: the
        call is made when all have been written, so either it never was, and would now launch for cells that have gone
        another way, or it was, and its instances can be found.
        """
        intent = cell.intent
        if intent is None or spec is None or spec.digest() != intent.parameters_sha256:
            return False
        others = sum(c.uid != cell.uid and _token(c) == intent.client_token for c in self._known())
        return others + 1 >= intent.count

    async def resume(self, cell: Cell, spec: LaunchSpec | None) -> Instance | None:
        """The instance of an intent whose answer this process has not seen; None if EC2 has none for it.

        The call is repeated if it can be; otherwise, or when EC2 refuses the token, the launch's instances are looked for
        by their tag. Raises CloudError.
        """
        intent = cell.intent
        if intent is None:
            raise ValueError(f"{cell.name} has no intent to resume")
        if spec is None or not self.can_repeat(cell, spec):
            return await self._adopt(intent)
        try:
            instances = await self._call(self._request(intent, spec))
        except TokenConflict:
            return await self._adopt(intent)
        return _by_index(instances, intent.index)

    async def close(self) -> None:
        """Stop; whatever was asked of EC2 is found again by the next process."""
        tasks = [*self._windows, *self._calls.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _window(self, spec: LaunchSpec) -> None:
        """Collect until nobody comes for a while, then launch; an answer or an error reaches everybody in the group."""
        opened, seen = self._clock.monotonic(), 0
        group = self._groups[spec]
        while seen != len(group) < MAX_BATCH and self._clock.monotonic() - opened < self._longest_s:
            seen = len(group)
            await self._clock.sleep(self._idle_s)
        del self._groups[spec]
        for start in range(0, len(group), MAX_BATCH):
            batch = group[start : start + MAX_BATCH]
            try:
                await self._launch_group(batch, spec)
            except BaseException as error:
                for waiting in batch:
                    if not waiting.answer.done():
                        waiting.answer.set_exception(LaunchFailed(waiting.cell, _as_exception(error)))
                if not isinstance(error, Exception):
                    raise

    async def _launch_group(self, batch: list[_Waiting], spec: LaunchSpec) -> None:
        batch = await self._write_intents(batch, spec)
        if not batch:
            return
        intent = batch[0].cell.intent
        if intent is None:
            raise RuntimeError("an intent was written and is not there")
        instances = await self._call(self._request(intent, spec))
        for waiting in batch:
            index = waiting.cell.intent.index if waiting.cell.intent else -1
            if not waiting.answer.done():
                waiting.answer.set_result((waiting.cell, _by_index(instances, index)))

    async def _write_intents(self, batch: list[_Waiting], spec: LaunchSpec) -> list[_Waiting]:
        """Write the intent to every Cell; those that cannot be written leave, and the rest form a new group."""
        while batch:
            intents = self._intents(batch, spec)
            outcomes = await asyncio.gather(
                *(
                    self._save(replace(w.cell, intent=i, launches=i.attempt))
                    for w, i in zip(batch, intents, strict=True)
                ),
                return_exceptions=True,
            )
            written: list[_Waiting] = []
            for waiting, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, Cell):
                    waiting.cell = outcome
                    written.append(waiting)
                elif not isinstance(outcome, KubeError):
                    raise outcome
                elif not waiting.answer.done():
                    waiting.answer.set_exception(LaunchFailed(waiting.cell, outcome))
            if len(written) == len(batch):
                return written
            batch = written
        return []

    def _intents(self, batch: list[_Waiting], spec: LaunchSpec) -> list[Intent]:
        cells = [(w.cell.uid, w.cell.launches + 1) for w in batch]
        token = names.client_token(cells=cells, parameters=spec.digest())
        return [
            Intent(
                client_token=token,
                attempt=waiting.cell.launches + 1,
                count=len(batch),
                index=index,
                instance_type=spec.instance_type,
                subnet_id=spec.subnet_id,
                zone=spec.zone,
                market=spec.market,
                image_id=spec.image_id,
                parameters_sha256=spec.digest(),
                requested_at=self._clock.now(),
            )
            for index, waiting in enumerate(batch)
        ]

    def _request(self, intent: Intent, spec: LaunchSpec) -> LaunchRequest:
        return LaunchRequest(
            client_token=intent.client_token,
            count=intent.count,
            instance_type=spec.instance_type,
            image_id=spec.image_id,
            subnet_id=spec.subnet_id,
            security_group_ids=spec.security_group_ids,
            user_data=spec.user_data,
            market=spec.market,
            root_volume_gib=spec.root_volume_gib,
            root_device_name=spec.root_device_name,
            instance_profile=spec.instance_profile,
            associate_public_ip=spec.associate_public_ip,
            hop_limit=spec.hop_limit,
            tags={
                **self._tags,
                names.TAG_LAUNCH: intent.client_token,
                names.TAG_NAME: self._called,
            },
        )

    async def _call(self, request: LaunchRequest) -> tuple[Instance, ...]:
        """One call in flight for each token: cells that resume the same launch share its answer."""
        task = self._calls.get(request.client_token)
        if task is None:
            task = asyncio.create_task(self._compute.launch(request), name="RunInstances")
            self._calls[request.client_token] = task
            task.add_done_callback(lambda _: self._calls.pop(request.client_token, None))
        # Shielded: one cell that is given up must not cancel what others wait for.
        return await asyncio.shield(task)

    async def _adopt(self, intent: Intent) -> Instance | None:
        found = await self._compute.describe(tags={**self._tags, names.TAG_LAUNCH: intent.client_token})
        return _by_index(tuple(found), intent.index)


def _token(cell: Cell) -> str | None:
    return cell.intent.client_token if cell.intent else None


def _by_index(instances: tuple[Instance, ...], index: int) -> Instance | None:
    return next((i for i in instances if i.launch_index == index and not i.gone), None)


def _as_exception(error: BaseException) -> Exception:
    if isinstance(error, Exception):
        return error
    return Unreachable("the operator stopped while the launch was under way")
