"""Cells that want the same machine are launched by one RunInstances, and never twice.

EC2 admits five RunInstances calls at once and two a second after that, but a thousand instances. So equal launches that
arrive within a short window share a call. Before it is made, the intent (its client token, the number of instances, each
cell's index among them) is written to every Cell of the group: a process that dies at any point is followed by one that
repeats the very same call and gets the very same instances, or that knows it was never made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace

import structlog

from kip.cells.batchsize import BatchSizes
from kip.cells.refusal import smaller_helps
from kip.cells.spec import LaunchSpec
from kip.cells.tags import in_common
from kip.cloud.base import Compute, Instance
from kip.cloud.errors import CloudError, Throttled, TokenConflict, Unreachable
from kip.kube.errors import KubeError
from kip.model import names
from kip.model.cell import Cell, Intent
from kip.model.clock import Clock

log = structlog.get_logger(__name__)

# Karpenter's CreateFleet batcher waits 35 ms for the next request; ten of that bounds a steady trickle.
IDLE_WINDOW_S = 0.035
LONGEST_WINDOW_S = 0.35
# While EC2's bucket of calls is empty, waiting costs nothing and every cell that joins saves a call: each call for a few
# cells would keep those after it waiting. Bounded, because launches of other kinds take their turns too.
LONGEST_FOR_A_TURN_S = 5.0
NO_TAGS: Mapping[str, str] = {}
# EC2's code for a token that comes back with other parameters: so it was used, and there are instances.
_MISMATCH = "IdempotentParameterMismatch"


class LaunchFailed(Exception):
    """A launch that brought no instance; `cell` is the Cell as it was last written, `error` says why."""

    def __init__(self, cell: Cell, error: Exception) -> None:
        super().__init__(str(error))
        self.cell = cell
        self.error = error


@dataclass(frozen=True)
class Found:
    """What there is for an intent."""

    instance: Instance | None
    sure: bool
    """False when it was only looked for: a new instance may not show yet."""


@dataclass
class _Waiting:
    cell: Cell
    tags: Mapping[str, str]
    answer: asyncio.Future[tuple[Cell, Instance | None]]


class Launcher:
    """Groups launches, writes intents, calls EC2, and tells each cell its instance."""

    def __init__(
        self,
        compute: Compute,
        clock: Clock,
        *,
        save: Callable[[Cell], Awaitable[Cell]],
        holders: Callable[[str], Collection[str]],
        tags: Mapping[str, str],
        called: str = "Kip cell",
        idle_s: float = IDLE_WINDOW_S,
        longest_s: float = LONGEST_WINDOW_S,
    ) -> None:
        """`save` writes a Cell; `holders` are the UIDs of those whose intent has a client token; `tags` say whose the
        instances are; `called` is the Name in EC2's console of those that are launched for several pods."""
        self._compute = compute
        self._clock = clock
        self._save = save
        self._holders = holders
        self._tags = dict(tags)
        self._called = called
        self._sizes = BatchSizes()
        self._trying = asyncio.Lock()
        # Batches whose intents are being written, which takes a second when there are many: their calls come before
        # that of a group that is open now.
        self._preparing = 0
        self._idle_s = idle_s
        self._longest_s = longest_s
        self._groups: dict[LaunchSpec, list[_Waiting]] = {}
        self._calls: dict[str, asyncio.Task[tuple[Instance, ...]]] = {}
        self._windows: set[asyncio.Task[None]] = set()

    async def launch(
        self, cell: Cell, spec: LaunchSpec, tags: Mapping[str, str] = NO_TAGS
    ) -> tuple[Cell, Instance | None]:
        """A new machine for this cell: the Cell with its intent, and the instance (None if EC2 gave fewer than asked).

        One call has one set of tags: of `tags` the instance gets those that all cells of its batch have in common.
        Raises LaunchFailed.
        """
        waiting = _Waiting(cell, tags, asyncio.get_running_loop().create_future())
        group = self._groups.setdefault(spec, [])
        group.append(waiting)
        if len(group) == 1:
            window = asyncio.create_task(self._window(spec), name="launch window")
            self._windows.add(window)
            window.add_done_callback(self._windows.discard)
        return await waiting.answer

    def throttled(self, cell: Cell) -> int:
        """How often in a row the call of this cell's intent was throttled."""
        return self._sizes.throttled(cell.intent.client_token) if cell.intent else 0

    def can_repeat(self, cell: Cell, spec: LaunchSpec) -> bool:
        """May the call of this cell's intent be made (again) as it was meant?

        Not with other parameters than those of the intent. And not unless every cell of the batch still has it: the
        call is made when all have been written, so either it never was, and would now launch for cells that have gone
        another way, or it was, and its instances can be found.
        """
        intent = cell.intent
        if intent is None or self._digest(spec, intent.tags) != intent.parameters_sha256:
            return False
        return len({cell.uid, *self._holders(intent.client_token)}) >= intent.count

    async def resume(self, cell: Cell, spec: LaunchSpec | None) -> Found:
        """The instance of an intent whose answer this process has not seen.

        The call is repeated if it can be; otherwise, or when EC2 refuses the token, the launch's instances are looked for
        by their tag. Raises LaunchFailed if the call is refused, CloudError if it is not known what became of it.
        """
        intent = _intent(cell)
        if smaller_helps(Throttled(""), count=intent.count, throttled=self.throttled(cell)):
            # Others of the batch have taken it back already: it must not be made after all.
            raise LaunchFailed(
                cell, Throttled("more instances at once than EC2 admits now", action="RunInstances")
            )
        if spec is None or not self.can_repeat(cell, spec):
            return Found(await self.find(cell), sure=False)
        try:
            instances = await self._call(intent, spec)
        except TokenConflict as error:
            return Found(await self.find(cell), sure=error.code != _MISMATCH)
        except CloudError as error:
            raise LaunchFailed(cell, error) from error
        return Found(_by_index(instances, intent.index), sure=True)

    async def find(self, cell: Cell) -> Instance | None:
        """The instance of the cell's intent, as far as EC2 shows it by now; raises CloudError."""
        intent = _intent(cell)
        found = await self._compute.describe(tags={**self._tags, names.TAG_LAUNCH: intent.client_token})
        return _by_index(tuple(found), intent.index)

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
        while seen != len(group) and self._clock.monotonic() - opened < self._longest_s:
            seen = len(group)
            await self._clock.sleep(self._idle_s)
        while (wait_s := self._compute.launch_wait_s(self._preparing)) > 0:
            left_s = LONGEST_FOR_A_TURN_S - (self._clock.monotonic() - opened)
            if left_s <= 0:
                break
            await self._clock.sleep(min(wait_s, left_s))
        del self._groups[spec]
        try:
            await self._launch_all(group, spec)
        except BaseException as error:
            _fail(group, error)
            if not isinstance(error, Exception):
                raise

    async def _launch_all(self, group: list[_Waiting], spec: LaunchSpec) -> None:
        """In batches, side by side; one after the other while it is being found out how much there is."""
        if self._sizes.cautious(spec):
            async with self._trying:
                group = await self._try_out(group, spec)
        size = self._sizes.of(spec)
        batches = [group[start : start + size] for start in range(0, len(group), size)]
        await asyncio.gather(*(self._launch_batch(batch, spec) for batch in batches))

    async def _try_out(self, group: list[_Waiting], spec: LaunchSpec) -> list[_Waiting]:
        """One batch after the other until as many may be asked for as ever; returns who is left then."""
        while group and self._sizes.cautious(spec):
            size = self._sizes.of(spec)
            batch, group = group[:size], group[size:]
            error = await self._launch_batch(batch, spec)
            if error is not None and not smaller_helps(error, count=len(batch)):
                # It would be the answer to all of them, and cost each batch a call.
                _fail(group, error)
                return []
        return group

    async def _launch_batch(self, batch: list[_Waiting], spec: LaunchSpec) -> CloudError | None:
        """One call. What EC2 refused it with is told to the batch, and returned."""
        try:
            self._preparing += 1
            try:
                written = await self._write_intents(batch, spec)
            finally:
                self._preparing -= 1
            if not written:
                return None
            instances = await self._call(_intent(written[0].cell), spec)
        except BaseException as error:
            _fail(batch, error)
            if isinstance(error, CloudError):
                return error
            if not isinstance(error, Exception):
                raise
            return None
        for waiting in written:
            if not waiting.answer.done():
                instance = _by_index(instances, _intent(waiting.cell).index)
                waiting.answer.set_result((waiting.cell, instance))
        return None

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
        tags = in_common(w.tags for w in batch)
        digest = self._digest(spec, tags)
        token = names.client_token(cells=cells, parameters=digest)
        return [
            Intent(
                client_token=token,
                attempt=waiting.cell.launches + 1,
                count=len(batch),
                index=index,
                instance_type=spec.instance_type,
                subnet_id=spec.subnet_id,
                zone=spec.zone,
                market=spec.launch_type,
                image_id=spec.image_id,
                parameters_sha256=digest,
                tags=tags,
                requested_at=self._clock.now(),
            )
            for index, waiting in enumerate(batch)
        ]

    def _digest(self, spec: LaunchSpec, tags: Mapping[str, str]) -> str:
        return spec.digest(self._launch_tags(tags))

    def _launch_tags(self, tags: Mapping[str, str]) -> dict[str, str]:
        """Whose it is goes over what it is for."""
        return {names.TAG_NAME: self._called, **tags, **self._tags}

    async def _call(self, intent: Intent, spec: LaunchSpec) -> tuple[Instance, ...]:
        """One call in flight for each token: cells that resume the same launch share its answer."""
        token = intent.client_token
        task = self._calls.get(token)
        if task is None:
            task = asyncio.create_task(self._run_instances(intent, spec), name="RunInstances")
            self._calls[token] = task
            task.add_done_callback(lambda _: self._calls.pop(token, None))
        # Shielded: one cell that is given up must not cancel what others wait for.
        return await asyncio.shield(task)

    async def _run_instances(self, intent: Intent, spec: LaunchSpec) -> tuple[Instance, ...]:
        # Of the intent, not of the pods: their labels may have changed, and a token is good for the same call only.
        tags = {**self._launch_tags(intent.tags), names.TAG_LAUNCH: intent.client_token}
        request = spec.request(client_token=intent.client_token, count=intent.count, tags=tags)
        try:
            instances = await self._compute.launch(request)
        except CloudError as error:
            self._sizes.refused(error, intent, spec)
            raise
        self._sizes.granted(intent, spec)
        return instances


def _intent(cell: Cell) -> Intent:
    if cell.intent is None:
        raise ValueError(f"{cell.name} has no intent")
    return cell.intent


def _by_index(instances: tuple[Instance, ...], index: int) -> Instance | None:
    return next((i for i in instances if i.launch_index == index and not i.gone), None)


def _fail(group: list[_Waiting], error: BaseException) -> None:
    """Tell those who wait that there is no instance for them."""
    if not isinstance(error, Exception):
        error = Unreachable("the operator stopped while the launch was under way")
    for waiting in group:
        if not waiting.answer.done():
            waiting.answer.set_exception(LaunchFailed(waiting.cell, error))
