"""What all sides of a served node have: work that runs while it is served, and an order in which they let go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import structlog

log = structlog.get_logger(__name__)

Loops = Mapping[str, Coroutine[Any, Any, None]]
"""By name. They end only with what serves the node: by being cancelled, or by breaking."""

Closers = tuple[Callable[[], Awaitable[None]], ...]
"""To be called one after the other."""

# A Lease that is lost can be taken three seconds later (kip.kube.lease.Timing).
_CLOSE_S = 2.4


def start(group: asyncio.TaskGroup, *sides: Loops) -> None:
    """Begin the work of these sides."""
    for loops in sides:
        for name, work in loops.items():
            group.create_task(work, name=name)


async def close(what: str, closers: Closers) -> None:
    """Close a side in time, whatever hangs or fails; `what` says in the log which one."""
    for closer in closers:
        try:
            async with asyncio.timeout(_CLOSE_S / len(closers)):
                await closer()
        except TimeoutError:
            log.error("not closed in time", what=what, step=closer.__qualname__)
        except Exception:
            log.exception("not closed", what=what, step=closer.__qualname__)
