"""Carries a download from the event loop to the thread that works on it, with an end to how much is under way."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterator

_FULL = 8 << 20  # bytes that may wait: enough that neither side often waits for the other


class Closed(Exception):
    """The thread wants no more: it has failed, and says why itself."""


class Broken(Exception):
    """The download ended with an error, which its own side reports."""


class Pipe:
    """`put` and `end` are for the event loop, iterating is for one thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._pieces: deque[bytes] = deque()
        self._waiting = 0
        self._ended = self._broken = self._closed = False
        self._room = asyncio.Event()

    async def put(self, piece: bytes) -> None:
        """Hands a piece on, when there is room. Raises Closed."""
        with self._changed:
            self._pieces.append(piece)
            self._waiting += len(piece)
            self._room.clear()
            full = self._waiting >= _FULL and not self._closed
            self._changed.notify()
        if full:
            await self._room.wait()
        if self._closed:
            raise Closed

    def end(self, *, broken: bool = False) -> None:
        """There is no more; `broken` if there should have been. Also for after a `close`."""
        with self._changed:
            self._ended, self._broken = True, broken
            self._changed.notify()

    def close(self) -> None:
        """From the thread: no more is wanted."""
        with self._changed:
            self._closed = True
        self._loop.call_soon_threadsafe(self._room.set)

    def __iter__(self) -> Iterator[bytes]:
        """The pieces. Raises Broken."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pieces or self._ended)
                if self._broken:
                    raise Broken
                pieces, self._pieces = self._pieces, deque()
                self._waiting = 0
            if not pieces:
                return
            self._loop.call_soon_threadsafe(self._room.set)
            yield from pieces
