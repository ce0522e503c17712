"""The operator's connections: at most one for each cell, dialled with care for both ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from kip.model.clock import Clock, SystemClock
from kip.tunnel.connection import Tunnel
from kip.tunnel.errors import Unreachable

# An ed25519 handshake costs 4 ms of this process and a tenth of a second in all.
HANDSHAKES_AT_ONCE = 32
# What one event loop can do beside its other work: an attempt without an answer costs half a millisecond.
ATTEMPTS_PER_S = 250
# The kernel repeats its SYN after 1, 3 and 7 s: an attempt that lasts is cheaper than new ones, but not for longer.
_LONGEST_ATTEMPT_S = 4.0
_COUNT_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class DialOptions:
    """Where a cell is and how to know it."""

    address: str
    port: int = 22
    username: str = "root"
    client_key: str = field(repr=False)
    host_keys: tuple[str, ...]
    """Accepted public keys: the recorded one; before that the first-contact key."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to try once, how long to wait after that, and how much time there is from attempt to attempt at least."""

    connect_timeout_s: float
    delay_s: float
    period_s: float = 0.0

    def rest_s(self, took_s: float) -> float:
        """How long to wait after an attempt that took so long."""
        return max(self.delay_s, self.period_s - took_s)


def pace(waited_s: float, dialling: int, chance: float) -> Pace:
    """The pace of dialling a cell for so long, among so many others.

    A machine that boots is reachable some ten to sixty seconds after its launch, and each tenth of a second
    counts; one that is silent for minutes needs patience. However many there are, attempts stay below
    `ATTEMPTS_PER_S` in all.

    Args:
        chance: uniform in 0…1; spreads the attempts of many cells.
    """
    if waited_s < 120:
        usual = Pace(connect_timeout_s=0.3, delay_s=0.1)
    elif waited_s < 600:
        usual = Pace(connect_timeout_s=1.0, delay_s=1.0)
    else:
        usual = Pace(connect_timeout_s=3.0, delay_s=5.0)
    period_s = dialling / ATTEMPTS_PER_S
    return Pace(
        # Among many, who answers does so to one of the kernel's repetitions.
        max(usual.connect_timeout_s, min(period_s / 2, _LONGEST_ATTEMPT_S)),
        usual.delay_s * (0.5 + chance),
        period_s * (0.5 + chance),
    )


def _place(options: DialOptions) -> tuple[str, int, str]:
    return options.address, options.port, options.username


def _retrieve(task: asyncio.Task[Tunnel]) -> None:
    """Nobody may be waiting any more; asyncio would complain about an exception that nobody looked at."""
    if not task.cancelled():
        task.exception()


Dial = Callable[..., Awaitable[Tunnel]]
OnLost = Callable[[str, str], None]


@dataclass(eq=False)
class _Entry:
    options: DialOptions
    task: asyncio.Task[Tunnel] = field(init=False)
    last_error: Unreachable | None = None
    tunnel: Tunnel | None = None
    watch: asyncio.Task[None] | None = None


class TunnelPool:
    """Connections by cell name.

    Args:
        on_lost: called with the cell's name and the reason when an open connection is gone without `drop`. The
            pool does not dial again by itself: whoever still wants the cell calls `ensure`.
    """

    def __init__(
        self,
        *,
        on_lost: OnLost,
        clock: Clock | None = None,
        handshakes: int = HANDSHAKES_AT_ONCE,
        dial: Dial = Tunnel.dial,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._on_lost = on_lost
        self._clock = clock or SystemClock()
        self._handshakes = asyncio.Semaphore(handshakes)
        self._dial = dial
        self._chance = chance
        self._entries: dict[str, _Entry] = {}
        self._closed = False
        self._dialling = 0
        self._counted_at = 0.0

    def __repr__(self) -> str:
        return f"<TunnelPool {', '.join(f'{number} {state}' for state, number in self.states().items())}>"

    def states(self) -> dict[str, int]:
        """How many connections are `open`, how many cells are being dialled."""
        opened = sum(entry.tunnel is not None for entry in self._entries.values())
        return {"open": opened, "dialling": len(self._entries) - opened}

    def get(self, cell: str) -> Tunnel | None:
        """The cell's open connection, if there is one."""
        entry = self._entries.get(cell)
        return entry.tunnel if entry else None

    async def ensure(self, cell: str, options: DialOptions, *, timeout_s: float | None = None) -> Tunnel:
        """The cell's connection, dialled until it is there.

        Dialling goes on after a timeout or cancellation, until `drop`: call again, also with new options.

        Args:
            timeout_s: how long this caller waits; None for ever.

        Raises:
            Unreachable: the time is over (holds what the last attempt met), or the cell was dropped.
            HostKeyMismatch, AuthenticationRefused: dialling has ended.
        """
        entry = await self._entry(cell, options)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(entry.task)
        except TimeoutError:
            raise entry.last_error or Unreachable(
                f"{options.address}:{options.port}: still being dialled"
            ) from None
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if entry.task.cancelled() and not (caller and caller.cancelling()):
                raise Unreachable(f"{options.address}:{options.port}: dropped while being dialled") from None
            raise

    async def drop(self, cell: str) -> None:
        """Closes the cell's connection, or stops dialling it; `on_lost` is not called."""
        if entry := self._entries.pop(cell, None):
            await self._end(entry)

    async def close(self) -> None:
        """Drops all, for good."""
        self._closed = True
        entries, self._entries = list(self._entries.values()), {}
        await asyncio.gather(*(self._end(entry) for entry in entries))

    async def _entry(self, cell: str, options: DialOptions) -> _Entry:
        if self._closed:
            raise RuntimeError("the pool is closed")
        entry = self._entries.get(cell)
        if entry and _place(entry.options) != _place(options):
            await self.drop(cell)
            entry = self._entries.get(cell)
        if entry is None:
            entry = _Entry(options)
            entry.task = asyncio.create_task(self._dial_until_open(cell, entry), name=f"dial {cell}")
            entry.task.add_done_callback(_retrieve)
            self._entries[cell] = entry
        entry.options = options
        return entry

    async def _dial_until_open(self, cell: str, entry: _Entry) -> Tunnel:
        began = self._clock.monotonic()
        while True:
            tried = self._clock.monotonic()
            now = pace(tried - began, self._count_dialling(), self._chance())
            try:
                tunnel = await self._attempt(entry.options, now.connect_timeout_s)
            except Unreachable as error:
                entry.last_error = error
            except BaseException:
                if self._entries.get(cell) is entry:
                    del self._entries[cell]
                raise
            else:
                entry.tunnel = tunnel
                entry.watch = asyncio.create_task(self._watch(cell, entry, tunnel), name=f"watch {cell}")
                return tunnel
            await self._clock.sleep(now.rest_s(self._clock.monotonic() - tried))

    def _count_dialling(self) -> int:
        """How many cells are being dialled. Counted ten times a second at most: each attempt asks for it."""
        now = self._clock.monotonic()
        if not self._dialling or now - self._counted_at > _COUNT_S:
            self._dialling = sum(entry.tunnel is None for entry in self._entries.values())
            self._counted_at = now
        return self._dialling

    async def _attempt(self, options: DialOptions, connect_timeout_s: float) -> Tunnel:
        return await self._dial(
            address=options.address,
            port=options.port,
            username=options.username,
            client_key=options.client_key,
            host_keys=options.host_keys,
            connect_timeout_s=connect_timeout_s,
            handshakes=self._handshakes,
        )

    async def _watch(self, cell: str, entry: _Entry, tunnel: Tunnel) -> None:
        reason = await tunnel.wait_closed()
        # Its sockets go with it, and before the cell may be dialled again: the next tunnel's have the same paths.
        await tunnel.close()
        if self._entries.get(cell) is entry:
            del self._entries[cell]
            self._on_lost(cell, reason)

    async def _end(self, entry: _Entry) -> None:
        entry.task.cancel()
        await asyncio.wait([entry.task])
        if entry.watch:
            entry.watch.cancel()
        if entry.tunnel:
            await entry.tunnel.close()
