"""Work by key: marked keys are reconciled one at a time each, many in parallel, again after a delay or a failure."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable

import structlog

from kip.model.backoff import Backoff
from kip.model.clock import Clock, pause
from kip.model.outcome import Outcome, Wait

log = structlog.get_logger(__name__)

# Failures of one key in a row; a success forgets them.
_BACKOFF = Backoff(first_s=0.2, limit_s=60.0)
# Most of a pass is waiting, for EC2 above all; and what is not under way cannot join the others' RunInstances.
PARALLEL = 1000
# One traceback for a key that goes on failing, once a passing trouble is out of question.
_TRACEBACK_AT = 2
# Reconciles under way that leave time for other work, and seconds between two looks.
_LITTLE = 10
_LOOK_S = 0.5

Reconcile = Callable[[str], Awaitable[Outcome]]


class WorkQueue:
    """A level-based work queue: what matters is that a key was marked, not how often or why.

    A key marked while it is being reconciled runs once more afterwards. A later delay never postpones an earlier one.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        parallel: int = PARALLEL,
        on_result: Callable[[str], None] = lambda result: None,
    ) -> None:
        self._clock = clock
        self._parallel = parallel
        self._on_result = on_result
        self._due: list[tuple[float, int, str]] = []
        self._due_at: dict[str, float] = {}
        self._order = itertools.count()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._failures: dict[str, int] = {}
        self._wake = asyncio.Event()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._due_at) + len(self._running)

    def depth(self) -> dict[str, int]:
        """Keys by where they are: `scheduled` for later, `waiting` for a turn, `active`."""
        now = self._clock.monotonic()
        waiting = sum(at <= now for at in self._due_at.values())
        return {
            "scheduled": len(self._due_at) - waiting,
            "waiting": waiting,
            "active": len(self._running),
        }

    async def wait_quiet(self, *, at_most_s: float) -> None:
        """Returns when little is under way, or after so many seconds: for what may as well be done later."""
        until = self._clock.monotonic() + at_most_s
        while len(self._running) > _LITTLE and self._clock.monotonic() < until:
            await self._clock.sleep(_LOOK_S)

    def mark(self, key: str, after_s: float = 0.0) -> None:
        """Reconcile this key after `after_s` seconds at the latest."""
        if self._stopping:
            return
        if after_s <= 0 and key in self._running:
            self._again.add(key)
            return
        at = self._clock.monotonic() + after_s
        if key in self._due_at and self._due_at[key] <= at:
            return
        self._due_at[key] = at
        heapq.heappush(self._due, (at, next(self._order), key))
        self._wake.set()

    async def run(self, reconcile: Reconcile) -> None:
        """Work until cancelled; reconciles under way are then cancelled too and awaited."""
        try:
            while True:
                self._wake.clear()
                delay = self._start_what_is_due(reconcile)
                if delay is None:
                    await self._wake.wait()
                    continue
                await pause(self._clock, delay, unless=self._wake)
        finally:
            self._stopping = True
            under_way = list(self._running.values())
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    def _start_what_is_due(self, reconcile: Reconcile) -> float | None:
        """Start what is due; seconds until the next is, None if nothing waits or if enough is under way."""
        now = self._clock.monotonic()
        while self._due and len(self._running) < self._parallel:
            at, _, key = self._due[0]
            if self._due_at.get(key) != at:
                heapq.heappop(self._due)  # an earlier mark replaced this one
                continue
            if at > now:
                return at - now
            heapq.heappop(self._due)
            del self._due_at[key]
            if key in self._running:
                self._again.add(key)
            else:
                self._running[key] = asyncio.create_task(self._work(key, reconcile), name=f"reconcile {key}")
        return None

    async def _work(self, key: str, reconcile: Reconcile) -> None:
        result, wait_s = "cancelled", None
        try:
            outcome = await reconcile(key)
            self._failures.pop(key, None)
            result = type(outcome).__name__.lower()
            wait_s = outcome.seconds if isinstance(outcome, Wait) else None
        except Exception as error:
            result, wait_s = "error", self._failed(key, error)
        except asyncio.CancelledError as error:
            if self._stopping:
                raise
            # Not of ours: something that it waited for was cancelled.
            result, wait_s = "error", self._failed(key, error)
        finally:
            # Whatever happened, the key may be worked on again.
            self._on_result(result)
            if len(self._running) == self._parallel:
                self._wake.set()
            self._running.pop(key, None)
            if key in self._again:
                self._again.discard(key)
                self.mark(key)
            if wait_s is not None:
                self.mark(key, wait_s)

    def _failed(self, key: str, error: BaseException) -> float:
        """Tell it; returns the seconds to wait."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay_s = _BACKOFF.delay_s(failures)
        log.warning(
            "reconcile failed",
            key=key,
            error=f"{type(error).__name__}: {error}",
            retry_s=delay_s,
            exc_info=failures == _TRACEBACK_AT,
        )
        return delay_s
