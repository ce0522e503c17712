"""One process's turns: wait for a virtual node that nobody serves, serve it, let go of it in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from kip.model.clock import Clock
from kip.observe.metrics import Snapshot

log = structlog.get_logger(__name__)

# A holder stops trusting its Lease 3 s before anybody else can take it (kip.kube.lease.Timing). What is cut first, the
# tunnels, is cut within milliseconds; this is for everything else to end.
_LET_GO_S = 2.5
# Serving that breaks off is begun again: at once where a second try may do, and with time for a spare where not.
_AGAIN_FIRST_S, _AGAIN_LIMIT_S = 1.0, 30.0
# Serving that lasted this long was sound; what ended it is a new trouble.
_SOUND_S = 60.0


class CannotLetGo(Exception):
    """Something goes on after the node was let go: only the end of the process stops it."""


class Holder(Protocol):
    """Part in the contest for the nodes' Leases (kip.kube.lease)."""

    async def acquire(self, names: Sequence[str]) -> str: ...
    async def keep(self) -> str: ...
    async def release(self) -> None: ...


class Serving(Protocol):
    """What is done while a node is held."""

    async def run(self) -> None: ...
    async def close(self) -> None: ...
    def snapshot(self) -> Snapshot: ...
    def trouble(self) -> str | None: ...


class Current:
    """What this process serves just now, for those who ask from outside."""

    def __init__(self) -> None:
        self.serving: Serving | None = None
        self.broke: str | None = None

    def snapshot(self) -> Snapshot:
        return self.serving.snapshot() if self.serving is not None else Snapshot()

    def trouble(self) -> str | None:
        """A spare is ready too: it is there to take over."""
        return self.serving.trouble() if self.serving is not None else self.broke


async def serve_in_turns(
    holder: Holder,
    names: Sequence[str],
    make: Callable[[str], Serving],
    current: Current,
    clock: Clock,
    *,
    leads: Callable[..., None],
) -> None:
    """For ever: wait for one of the nodes, serve it for as long as it is held. Raises CannotLetGo."""
    failures = 0
    while True:
        log.info("waiting for a virtual node to serve", nodes=list(names))
        node_name = await holder.acquire(names)
        began = clock.monotonic()
        leads(node_name, holder=True)
        try:
            current.broke = await _serve_while_held(node_name, holder, make, current)
        finally:
            leads(node_name, holder=False)
        sound = current.broke is None or clock.monotonic() - began >= _SOUND_S
        failures = 0 if sound else min(failures + 1, 8)
        await clock.sleep(min(_AGAIN_LIMIT_S, _AGAIN_FIRST_S * 2**failures))


async def _serve_while_held(
    node_name: str, holder: Holder, make: Callable[[str], Serving], current: Current
) -> str | None:
    """Serve until the Lease is lost or serving breaks; returns what broke. Everything has been let go by then."""
    keeping = asyncio.create_task(holder.keep(), name="lease")
    serving: Serving | None = None
    working: asyncio.Task[None] | None = None
    try:
        serving = current.serving = make(node_name)
        working = asyncio.create_task(serving.run(), name="serving")
        await asyncio.wait((keeping, working), return_when=asyncio.FIRST_COMPLETED)
        return _why_ended(node_name, keeping, working)
    except Exception as error:
        log.exception("serving could not begin", node=node_name)
        return f"serving could not begin: {error}"
    finally:
        current.serving = None
        try:
            await _let_go(serving, working)
        finally:
            # Also by a process that cannot let go and is about to end: a spare must not wait for it.
            keeping.cancel()
        await asyncio.wait((keeping,), timeout=_LET_GO_S)
        await holder.release()


def _why_ended(node_name: str, keeping: asyncio.Task[str], working: asyncio.Task[None]) -> str | None:
    if keeping.done():
        why = str(keeping.exception() or keeping.result())
        log.error("the node's lease is lost; letting go", node=node_name, reason=why)
        return None
    error = working.exception()
    log.error("serving broke off; letting go", node=node_name, exc_info=error)
    return f"serving {node_name} broke off: {_innermost(error)}"


def _innermost(error: BaseException | None) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}" if error is not None else "it ended"


async def _let_go(serving: Serving | None, working: asyncio.Task[None] | None) -> None:
    """The work is stopped and the connections are cut at the same time, both within bounds."""
    if working is not None:
        working.cancel()
    if serving is not None:
        await serving.close()
    if working is not None:
        await asyncio.wait((working,), timeout=_LET_GO_S)
        if not working.done():
            raise CannotLetGo(f"serving goes on {_LET_GO_S:g} s after it was stopped")
