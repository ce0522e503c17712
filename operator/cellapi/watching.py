"""Opening a watch, within what one cell may keep open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kip.cellapi.call import Call
from kip.cellapi.listing import ListOptions, WatchStream
from kip.cellapi.problem import too_many


@asynccontextmanager
async def watching(call: Call, options: ListOptions) -> AsyncIterator[WatchStream]:
    """A stream for the answer, not opened yet. Raises Problem (429) if the cell has too many."""
    session, limits = call.session, call.session.shared.limits
    if session.watches >= limits.watches:
        raise too_many(f"{limits.watches} watches are open already")
    session.watches += 1
    try:
        yield WatchStream(call.request, options.timeout_s, limits.write_s)
    finally:
        session.watches -= 1
