"""Many small calls at once become one: EC2 counts requests, not the instances in them.

A bucket collects items until nothing new has come for a while, until it is as old as allowed, or until it is full;
then one call is made for all of them and each caller gets the results of its own items.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from kip.model.background import Background
from kip.model.clock import Clock, SystemClock, pause

Item = TypeVar("Item", bound=Hashable)
Result = TypeVar("Result")
Key = Hashable


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """When a bucket is sent."""

    idle: float
    """Seconds without a new item."""
    longest: float
    """Seconds since the first item, whatever comes in."""
    most_items: int
    """Items that fill a bucket."""


@dataclass(slots=True, eq=False)
class _Bucket(Generic[Item, Result]):
    opened: float
    touched: float
    waiting: dict[Item, asyncio.Future[Result]] = field(default_factory=dict)
    full: asyncio.Event = field(default_factory=asyncio.Event)


class Batcher(Generic[Item, Result]):
    """Collects items into buckets and calls `execute(items)` once a bucket.

    `execute` returns one result per item, in the items' order; a result that is an exception is raised to those who
    submitted that item. An exception that it raises goes to every caller with an item in that bucket. Equal items in one
    bucket are asked for once.
    """

    def __init__(
        self,
        execute: Callable[[list[Item]], Awaitable[Sequence[Result | Exception]]],
        windows: Windows,
        *,
        key: Callable[[Item], Key] = lambda item: None,
        clock: Clock | None = None,
    ) -> None:
        self._execute = execute
        self._windows = windows
        self._key = key
        self._clock = clock or SystemClock()
        self._open: dict[Key, _Bucket[Item, Result]] = {}
        self._sending = Background()

    async def submit(self, items: Iterable[Item]) -> list[Result]:
        """The items' results, in order. A caller that is cancelled does not disturb others in its bucket.

        Raises:
            Exception: what `execute` raised for a bucket with one of the items, or returned for the first such item.
        """
        futures = [self._enqueue(item) for item in items]
        if not futures:
            return []
        await asyncio.wait(futures)
        return [future.result() for future in futures]

    async def close(self) -> None:
        """Cancel what is under way and waiting."""
        await self._sending.close()

    def _enqueue(self, item: Item) -> asyncio.Future[Result]:
        key, now = self._key(item), self._clock.monotonic()
        bucket = self._open.get(key)
        if bucket is None:
            bucket = self._open[key] = _Bucket(opened=now, touched=now)
            self._sending.start(self._collect_and_send(key, bucket))
        bucket.touched = now
        future = bucket.waiting.setdefault(item, asyncio.get_running_loop().create_future())
        if len(bucket.waiting) >= self._windows.most_items:
            # Closed at once, not when its task wakes: the next item belongs to the next bucket.
            del self._open[key]
            bucket.full.set()
        return future

    async def _collect_and_send(self, key: Key, bucket: _Bucket[Item, Result]) -> None:
        try:
            await self._until_due(bucket)
            if self._open.get(key) is bucket:
                del self._open[key]
            items = list(bucket.waiting)
            results = await self._execute(items)
            for item, result in zip(items, results, strict=True):
                if isinstance(result, Exception):
                    _refuse(bucket.waiting[item], result)
                else:
                    bucket.waiting[item].set_result(result)
        except asyncio.CancelledError:
            for future in bucket.waiting.values():
                future.cancel()
            raise
        except Exception as error:
            for future in bucket.waiting.values():
                if not future.done():
                    _refuse(future, error)

    async def _until_due(self, bucket: _Bucket[Item, Result]) -> None:
        while not bucket.full.is_set():
            due = min(bucket.touched + self._windows.idle, bucket.opened + self._windows.longest)
            if (left := due - self._clock.monotonic()) <= 0:
                return
            await pause(self._clock, left, unless=bucket.full)


def _refuse(future: asyncio.Future[Any], error: Exception) -> None:
    future.set_exception(error)
    # Read once here: a caller that was cancelled meanwhile will not, and nobody should be warned.
    future.exception()
