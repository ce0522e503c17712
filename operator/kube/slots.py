"""Places for requests: so many at once, and who can wait leaves most of them to others."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

_patient = ContextVar("patient", default=False)


@contextmanager
def patiently() -> Iterator[None]:
    """What is written in this block has time: it lets others go first while there are many."""
    token = _patient.set(True)
    try:
        yield
    finally:
        _patient.reset(token)


def is_patient() -> bool:
    """Whether we are in such a block."""
    return _patient.get()


class Slots:
    """At most `most` at once, in the order of their coming.

    Those who come `patiently` have `few` of the places while there are others; these are always theirs to take, so that
    they wait long, but not for ever. While there are no others they may have all.
    """

    def __init__(self, most: int, *, few: int) -> None:
        self._most = most
        self._few = few
        self._taken = {True: 0, False: 0}
        self._waiting: dict[bool, deque[asyncio.Future[None]]] = {True: deque(), False: deque()}

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """A place, for as long as the block lasts."""
        patient = is_patient()
        await self._take(patient)
        try:
            yield
        finally:
            self._taken[patient] -= 1
            self._fill()

    async def _take(self, patient: bool) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[patient].append(turn)
        self._fill()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._taken[patient] -= 1
                self._fill()
            raise

    def _fill(self) -> None:
        """Let in whoever's turn it is."""
        while sum(self._taken.values()) < self._most and (patient := self._next()) is not None:
            turn = self._waiting[patient].popleft()
            if not turn.done():  # else: it was cancelled meanwhile
                self._taken[patient] += 1
                turn.set_result(None)

    def _next(self) -> bool | None:
        """Which of the two kinds; None if nobody may come in."""
        if self._waiting[True] and self._taken[True] < self._few:
            return True
        if self._waiting[False]:
            return False
        return True if self._waiting[True] and not self._taken[False] else None
