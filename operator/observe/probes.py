"""`/healthz`, `/readyz` and `/metrics` over plain HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Protocol

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from kip.model.clock import Clock, SystemClock

#: Says what is wrong, or None. Must not wait.
Check = Callable[[], str | None]

#: A probe's usual timeout is some seconds: an event loop that is held up for longer than this serves nobody.
STALL_S = 15.0
_TICK_S = 1.0


class Registered(Protocol):
    """Metrics of a process."""

    @property
    def registry(self) -> CollectorRegistry: ...


class Loop:
    """Something that goes round and round; it is stalled when it has not for too long."""

    def __init__(self, clock: Clock, stall_s: float) -> None:
        self._clock = clock
        self._stall_s = stall_s
        self._last = clock.monotonic()

    def turn(self) -> None:
        """To be called once in every round."""
        self._last = self._clock.monotonic()

    def check(self) -> str | None:
        """What is wrong if it is stalled."""
        age = self._clock.monotonic() - self._last
        return (
            f"no turn for {age:.0f} s, expected one every {self._stall_s:g} s"
            if age > self._stall_s
            else None
        )


class Probes:
    """Collects checks from all parts and answers for them."""

    def __init__(self, metrics: Registered, *, clock: Clock | None = None, stall_s: float = STALL_S) -> None:
        """`stall_s`: seconds for which the event loop may be held up."""
        self._metrics = metrics
        self._clock = clock or SystemClock()
        self._alive: dict[str, Check] = {}
        self._ready: dict[str, Check] = {}
        self._event_loop = self.loop("event loop", stall_s=stall_s)

    def alive(self, name: str, check: Check) -> None:
        """Make `/healthz` depend on it: when it fails for long, the process is killed and started again."""
        _add(self._alive, name, check)

    def ready(self, name: str, check: Check) -> None:
        """Make `/readyz` depend on it."""
        _add(self._ready, name, check)

    def loop(self, name: str, *, stall_s: float) -> Loop:
        """A loop that must turn at least every `stall_s` seconds, or `/healthz` fails."""
        loop = Loop(self._clock, stall_s)
        self.alive(name, loop.check)
        return loop

    @asynccontextmanager
    async def serve(self, address: str, port: int) -> AsyncIterator[int]:
        """Listen while the context lasts; gives the port, of the kernel's choice when `port` is 0.

        Raises:
            OSError: the address cannot be listened on.
        """
        runner = web.AppRunner(self._application(), access_log=None)
        await runner.setup()
        ticker = asyncio.create_task(self._tick(), name="event loop ticker")
        try:
            site = web.TCPSite(runner, address, port)
            await site.start()
            yield runner.addresses[0][1]
        finally:
            ticker.cancel()
            await asyncio.gather(ticker, return_exceptions=True)
            await runner.cleanup()

    def _application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._exposition)
        return application

    async def _tick(self) -> None:
        while True:
            self._event_loop.turn()
            await self._clock.sleep(_TICK_S)

    async def _healthz(self, _request: web.Request) -> web.Response:
        return _answer(self._alive.items())

    async def _readyz(self, _request: web.Request) -> web.Response:
        return _answer(self._ready.items())

    async def _exposition(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        body: bytes = encode(self._metrics.registry)
        return web.Response(body=body, headers={"Content-Type": content_type})


def _add(checks: dict[str, Check], name: str, check: Check) -> None:
    if name in checks:
        raise ValueError(f"there is a check {name!r} already")
    checks[name] = check


def _answer(checks: Iterable[tuple[str, Check]]) -> web.Response:
    """As the API server's own endpoints write it: a line for each check."""
    troubles = [(name, _run(check)) for name, check in checks]
    lines = [f"[-]{name}: {trouble}" if trouble else f"[+]{name} ok" for name, trouble in troubles]
    failed = any(trouble for _, trouble in troubles)
    lines.append("failed" if failed else "ok")
    return web.Response(status=503 if failed else 200, text="\n".join(lines) + "\n")


def _run(check: Check) -> str | None:
    try:
        return check()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
