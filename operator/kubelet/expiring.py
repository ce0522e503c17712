"""A small cache whose entries die by time and, when there are too many, by age."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from kip.model.clock import Clock

K = TypeVar("K")
V = TypeVar("V")


class ExpiringCache(Generic[K, V]):
    """Holds at most `limit` entries: callers choose the keys (tokens), so that they must not fill the memory."""

    def __init__(self, clock: Clock, limit: int = 4096) -> None:
        self._clock = clock
        self._limit = limit
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def __contains__(self, key: K) -> bool:
        entry = self._entries.get(key)
        return entry is not None and self._clock.monotonic() < entry[0]

    def __getitem__(self, key: K) -> V:
        return self._entries[key][1]

    def put(self, key: K, value: V, ttl_s: float) -> None:
        """Remember for `ttl_s` seconds."""
        self._entries.pop(key, None)
        self._entries[key] = (self._clock.monotonic() + ttl_s, value)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)
