"""Leaving the event loop to what is more urgent, before work that keeps it for a while."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

GiveWay = Callable[[], Awaitable[None]]
"""Returns when there is time, or soon."""


async def at_once() -> None:
    """There always is time."""
