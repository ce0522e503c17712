"""A Lease that is kept by a thread of its own: work that keeps the event loop busy must not cost the node.

A thousand pods at once keep the process busy for seconds. In the same event loop a renewal waits for its turn at every
step, comes too late, and the node is let go and taken again, with all its connections, in the middle of the rush.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from kip.kube.client import ApiClient
from kip.kube.lease import LeaseHolder, Timing
from kip.model.clock import Clock

T = TypeVar("T")

# While the event loop has not turned for this long the Lease is not renewed: nobody knows whether it ever will again. A
# spare then takes over within 30 s in all, before Kubernetes calls the node unreachable (40 s).
STALLED_S = 18.0
_BEAT_S = 0.5
_STOP_S = 1.0


class LeaseThread:
    """A LeaseHolder as another event loop sees it: the same methods, and the same rules."""

    def __init__(self, holder: LeaseHolder, loop: asyncio.AbstractEventLoop) -> None:
        """`loop` is the thread's, in which everything of the holder happens."""
        self._holder = holder
        self._loop = loop

    @property
    def holding(self) -> bool:
        """True while nobody else can have taken the name."""
        return self._holder.holding

    @property
    def name(self) -> str | None:
        return self._holder.name

    def grant(self) -> Callable[[], bool]:
        """As LeaseHolder.grant."""
        return self._holder.grant()

    async def acquire(self, names: Sequence[str]) -> str:
        """As LeaseHolder.acquire."""
        return await self._there(self._holder.acquire(names))

    async def keep(self) -> str:
        """As LeaseHolder.keep."""
        return await self._there(self._holder.keep())

    async def release(self) -> None:
        """As LeaseHolder.release."""
        await self._there(self._holder.release())

    async def _there(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))


@asynccontextmanager
async def lease_thread(
    connect: Callable[[], Awaitable[ApiClient]],
    clock: Clock,
    *,
    namespace: str,
    identity: str,
    timing: Timing | None = None,
    stalled_s: float = STALLED_S,
) -> AsyncIterator[LeaseThread]:
    """The thread with its own connections to the API server, until the block's end. Raises what `connect` raises."""
    pulse = _Pulse(clock, stalled_s)
    thread = _Thread(
        connect,
        lambda client: LeaseHolder(
            client, clock, namespace=namespace, identity=identity, timing=timing, may_renew=pulse.is_felt
        ),
    )
    holder, loop = await thread.start()
    beating = asyncio.create_task(pulse.beat(), name="pulse")
    try:
        yield LeaseThread(holder, loop)
    finally:
        beating.cancel()
        await thread.stop()


Place = tuple[LeaseHolder, asyncio.AbstractEventLoop]


class _Thread:
    """An event loop in a thread, with a client and a holder that live there."""

    def __init__(
        self, connect: Callable[[], Awaitable[ApiClient]], make: Callable[[ApiClient], LeaseHolder]
    ) -> None:
        self._connect = connect
        self._make = make
        self._over = threading.Event()
        self._end: Callable[[], object] = lambda: None

    async def start(self) -> Place:
        """Where the holder lives; raises what connecting raises."""
        here = asyncio.get_running_loop()
        begun: asyncio.Future[Place] = here.create_future()

        def tell(settle: Callable[[], None]) -> None:
            with contextlib.suppress(RuntimeError):  # nobody waits any more
                here.call_soon_threadsafe(lambda: None if begun.done() else settle())

        # A daemon: a process that cannot let go has to end all the same.
        threading.Thread(target=self._work, args=(begun, tell), name="lease", daemon=True).start()
        return await begun

    async def stop(self) -> None:
        """The connections are closed; a thread that hangs is left to the end of the process."""
        with contextlib.suppress(RuntimeError):
            self._end()
        await asyncio.to_thread(self._over.wait, _STOP_S)

    def _work(self, begun: asyncio.Future[Place], tell: Callable[[Callable[[], None]], None]) -> None:
        try:
            asyncio.run(self._live(lambda place: tell(lambda: begun.set_result(place))))
        except Exception as error:
            told = error
            tell(lambda: begun.set_exception(told))
        finally:
            self._over.set()

    async def _live(self, ready: Callable[[Place], None]) -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        self._end = lambda: loop.call_soon_threadsafe(ended.set)
        client = await self._connect()
        try:
            ready((self._make(client), loop))
            await ended.wait()
        finally:
            await client.close()


class _Pulse:
    """Whether the event loop that does the work still turns."""

    def __init__(self, clock: Clock, stalled_s: float) -> None:
        self._clock = clock
        self._stalled_s = stalled_s
        self._felt_at = clock.monotonic()

    async def beat(self) -> None:
        while True:
            self._felt_at = self._clock.monotonic()
            await self._clock.sleep(_BEAT_S)

    def is_felt(self) -> bool:
        return self._clock.monotonic() - self._felt_at < self._stalled_s
