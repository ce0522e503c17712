"""An API server that is away, or that has just been started, is waited for; one that refuses for good is not."""

from __future__ import annotations

import asyncio

import pytest

from kip.kube.errors import Forbidden, KubeError, NotFound, Unavailable
from kip.kube.waiting import when_available
from kip.model.clock import ManualClock

REFUSED = Forbidden(403, "Forbidden", "no roles yet")
AWAY = Unavailable("connection refused")


class Server:
    """Answers with these errors, one after the other, and then well; the last one for ever if `stays`."""

    def __init__(self, *errors: KubeError, stays: bool = False) -> None:
        self.errors = list(errors)
        self.stays = stays
        self.asked = 0

    async def ask(self) -> str:
        self.asked += 1
        if not self.errors:
            return "well"
        raise self.errors[0] if self.stays and len(self.errors) == 1 else self.errors.pop(0)


async def test_it_asks_again_until_there_is_an_answer() -> None:
    clock, server = ManualClock(), Server(AWAY, AWAY, REFUSED, AWAY, REFUSED)
    waiting = asyncio.create_task(when_available(server.ask, clock, what="facts"))
    await clock.advance(4.9)
    assert not waiting.done()
    await clock.advance(0.1)
    assert await waiting == "well"
    assert server.asked == 6


async def test_an_absence_is_waited_for_however_long() -> None:
    clock, server = ManualClock(), Server(AWAY, stays=True)
    waiting = asyncio.create_task(when_available(server.ask, clock, what="facts"))
    await clock.advance(600)
    assert not waiting.done()
    server.errors.clear()
    await clock.advance(1)
    assert await waiting == "well"


async def test_a_refusal_that_lasts_is_raised() -> None:
    clock, server = ManualClock(), Server(AWAY, REFUSED, stays=True)
    waiting = asyncio.create_task(when_available(server.ask, clock, what="facts"))
    await clock.advance(20)
    assert not waiting.done()
    await clock.advance(1)
    with pytest.raises(Forbidden, match="no roles yet"):
        await waiting


async def test_an_absence_between_two_refusals_begins_the_patience_anew() -> None:
    clock, server = ManualClock(), Server(*[REFUSED] * 15, AWAY, REFUSED, stays=True)
    waiting = asyncio.create_task(when_available(server.ask, clock, what="facts"))
    await clock.advance(35)
    assert not waiting.done()
    await clock.advance(1)
    with pytest.raises(Forbidden):
        await waiting


async def test_another_error_is_raised_at_once() -> None:
    server = Server(NotFound(404, "NotFound", "gone"))
    with pytest.raises(NotFound):
        await when_available(server.ask, ManualClock(), what="facts")
    assert server.asked == 1
