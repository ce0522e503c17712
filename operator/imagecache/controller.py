"""The controller: what the cluster wants, the queue that sees to it, and the keeper, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import structlog

from kip.imagecache.held import architectures, held
from kip.imagecache.keeper import Keeper
from kip.imagecache.queue import Queue
from kip.imagecache.wants import Want, wants
from kip.images.errors import CachingError
from kip.kube.store import Store
from kip.model.clock import Clock, pause
from kip.observe.imagecache import ImageCacheMetrics
from kip.pods.images import meant_for_virtual_node
from kip.pods.tree import Pod

log = structlog.get_logger(__name__)

# News come in bursts: what is wanted is put together once for each.
_SETTLE_S = 0.2
_TIDY_EVERY_S = 60.0
# Images that make room for another one go at once, their layers after eviction.SHORT_GRACE.
_NEEDED_S = 1800.0
# After trouble with the volume.
_TIDY_AGAIN_S = 10.0


@dataclass(frozen=True)
class Seen:
    """What is known of the cluster, kept current by others."""

    pods: Sequence[Store]
    """Of each virtual node."""
    waiting: Sequence[Store]
    """Of pods that are not bound; empty if they do not count."""
    cells: Store

    @property
    def synced(self) -> bool:
        return all(store.synced for store in (*self.pods, *self.waiting, self.cells))


@dataclass
class Wanted:
    """What is wanted now."""

    all: tuple[Want, ...] | None = None
    """None until the cluster is known."""

    def keys(self) -> Iterable[tuple[str, str]]:
        return [want.key for want in self.all or ()]


@dataclass(frozen=True)
class _Need:
    """Room that an image did not find."""

    bytes: int = 0
    until: float = 0.0

    def at(self, now: float) -> int:
        return self.bytes if now < self.until else 0


class Controller:
    """Runs until it is cancelled."""

    def __init__(
        self,
        seen: Seen,
        wanted: Wanted,
        *,
        queue: Queue,
        keeper: Keeper,
        metrics: ImageCacheMetrics,
        clock: Clock,
        listed: Sequence[str],
        platforms: Sequence[str],
    ) -> None:
        self._seen = seen
        self._wanted = wanted
        self._queue = queue
        self._keeper = keeper
        self._metrics = metrics
        self._clock = clock
        self._listed = listed
        self._platforms = platforms
        self.turn: Callable[[], None] = lambda: None
        """Called in each round of the keeper."""
        self._news = asyncio.Event()
        self._tidy_now = asyncio.Event()
        self._need = _Need()
        self.volume_trouble: str | None = "the volume was not looked at yet"
        """Why the volume cannot be used; None if it can."""

    def changed(self) -> None:
        """There is news of pods or Cells."""
        self._news.set()

    def trouble(self, need_bytes: int) -> None:
        """A conversion of so many bytes found the volume full or away: the keeper looks at once, and makes room."""
        self._need = _Need(need_bytes, self._clock.monotonic() + _NEEDED_S)
        self._tidy_now.set()

    async def run(self) -> None:
        """What is wanted, what is fetched, and what goes, each at its own pace."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(), name="what is wanted")
            tasks.create_task(self._queue.run(), name="what is fetched")
            tasks.create_task(self._tidy(), name="what goes")

    async def _follow(self) -> None:
        while True:
            await self._news.wait()
            await self._clock.sleep(_SETTLE_S)
            self._news.clear()
            if self._seen.synced:
                if self._wanted.all is None:
                    self._tidy_now.set()  # without that, nothing could go
                self._wanted.all = self._what_is_wanted()
                self._queue.update(self._wanted.all)

    def _what_is_wanted(self) -> tuple[Want, ...]:
        return wants(
            _all(self._seen.pods),
            filter(meant_for_virtual_node, _all(self._seen.waiting)),
            self._listed,
            architecture=architectures(self._seen.cells.items()),
            platforms=self._platforms,
        )

    async def _tidy(self) -> None:
        while True:
            self.turn()
            self._tidy_now.clear()
            try:
                need_bytes = self._need.at(self._clock.monotonic())
                tidied = await self._keeper.tidy(need_bytes=need_bytes)
                self.volume_trouble = None
                self._stop(tidied.no_room)
                hurry = tidied.no_room or need_bytes or not self._seen.synced
                pause_s = _TIDY_AGAIN_S if hurry else _TIDY_EVERY_S
            except CachingError as error:
                self.volume_trouble = str(error)
                self._stop(str(error))
                pause_s = _TIDY_AGAIN_S
            await pause(self._clock, pause_s, unless=self._tidy_now)

    def _stop(self, reason: str) -> None:
        if reason and reason != self._queue.stopped:
            log.warning("nothing is fetched now", reason=reason)
        elif self._queue.stopped and not reason:
            log.info("fetching goes on")
        self._queue.stop(reason)
        self._metrics.blocked("fetching", by=reason)


def _all(stores: Sequence[Store]) -> Iterator[Pod]:
    return (pod for store in stores for pod in store.items())


def held_by_cells(seen: Seen, wanted: Wanted) -> dict[str, str] | None:
    """For the keeper: None until all of the cluster is known, and so what its pods want."""
    return held(seen.cells.items()) if seen.synced and wanted.all is not None else None
