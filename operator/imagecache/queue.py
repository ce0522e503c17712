"""Which image is fetched when: what is wanted, what is under way, what has failed and waits."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import structlog

from kip.imagecache.wants import Want
from kip.model.backoff import Backoff
from kip.model.clock import Clock, pause

log = structlog.get_logger(__name__)

Key = tuple[str, str]
Verdict = Literal["done", "failed"]
#: Sees to one image.
Work = Callable[[Want], Awaitable[Verdict]]

# Of an image that could not be had: a secret is mended in a minute, a registry's outage lasts longer.
_RETRY = Backoff(first_s=15.0, limit_s=900.0)


@dataclass
class _State:
    want: Want
    due: float = 0.0
    """When it is to be looked at next, on the monotonic clock."""
    failures: int = 0
    cached: bool = False
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Queue:
    """Works on what is wanted, so many at a time, the most urgent first; each image is looked at again after a while."""

    def __init__(
        self,
        work: Work,
        clock: Clock,
        *,
        parallel: int,
        again_s: float,
        changed: Callable[[Mapping[str, int]], None] = lambda _: None,
    ) -> None:
        """`again_s`: seconds after which a cached image is looked at again. `changed` hears of `states`."""
        self._work = work
        self._clock = clock
        self._parallel = parallel
        self._again_s = again_s
        self._changed = changed
        self._states: dict[Key, _State] = {}
        self._wake = asyncio.Event()
        self._stopped = ""

    @property
    def stopped(self) -> str:
        """Why nothing new is begun; empty while it goes on."""
        return self._stopped

    def update(self, wants: Iterable[Want]) -> None:
        """What is wanted now, the most urgent first. What is under way for nobody any more is finished all the same."""
        before = self._states
        self._states = {}
        for want in wants:
            state = before.pop(want.key, None) or _State(want)
            if state.failures and _newcomers(state.want, want):
                # They may have the credentials that the others had not.
                state.due = 0.0
            state.want = want
            self._states[want.key] = state
        self._states.update({key: state for key, state in before.items() if state.task})
        self._wake.set()

    def stop(self, reason: str) -> None:
        """Begins nothing new, until it is called with an empty reason."""
        self._stopped = reason
        self._wake.set()

    async def run(self) -> None:
        """Works until it is cancelled; then what is under way is cancelled too, and waited for."""
        try:
            while True:
                self._wake.clear()
                self._begin()
                self._changed(self.states())
                await self._rest()
        finally:
            running = [state.task for state in self._states.values() if state.task]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def states(self) -> Mapping[str, int]:
        """How many are waiting, running, and waiting after a failure."""
        return Counter(
            "running" if state.task else "failed" if state.failures else "waiting"
            for state in self._states.values()
            if state.task or not state.cached
        )

    def _begin(self) -> None:
        running = sum(state.task is not None for state in self._states.values())
        now = self._clock.monotonic()
        for state in self._states.values():
            if running >= self._parallel or self._stopped:
                return
            if state.task is None and state.due <= now:
                state.task = asyncio.create_task(self._one(state), name=f"cache {state.want.reference}")
                running += 1

    async def _one(self, state: _State) -> None:
        verdict: Verdict = "failed"
        try:
            verdict = await self._work(state.want)
        except Exception:
            # A mistake of ours, with one image; the others shall not suffer from it.
            log.exception("image not cached", image=str(state.want.reference))
        finally:
            state.task = None
            state.cached = verdict == "done"
            if verdict == "failed":
                state.due = self._clock.monotonic() + _RETRY.delay_s(state.failures)
                state.failures += 1
            else:
                state.due, state.failures = self._clock.monotonic() + self._again_s, 0
            self._wake.set()

    async def _rest(self) -> None:
        """Until something changes or something is due."""
        now = self._clock.monotonic()
        due = [state.due for state in self._states.values() if state.task is None and state.due > now]
        if due:
            await pause(self._clock, min(due) - now, unless=self._wake)
        else:
            await self._wake.wait()


def _newcomers(before: Want, now: Want) -> bool:
    known = {pod["metadata"]["uid"] for pod in before.pods}
    return any(pod["metadata"]["uid"] not in known for pod in now.pods)
