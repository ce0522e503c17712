from __future__ import annotations

from typing import Any

from kip.kubelet.expiring import ExpiringCache


def test_entries_die_by_time(clock: Any) -> None:
    cache: ExpiringCache[str, int] = ExpiringCache(clock)
    cache.put("a", 1, 10)
    assert "a" in cache
    assert cache["a"] == 1
    clock.advance(10)
    assert "a" not in cache


def test_the_oldest_goes_when_there_are_too_many(clock: Any) -> None:
    cache: ExpiringCache[int, int] = ExpiringCache(clock, limit=3)
    for key in range(5):
        cache.put(key, key, 100)
    cache.put(2, 22, 100)
    assert [key for key in range(5) if key in cache] == [2, 3, 4]
    assert cache[2] == 22
