"""Work that nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Background:
    """Tasks that go on until they end or are cancelled here; without a reference to it, a task may vanish half-way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], *, name: str | None = None) -> None:
        """Begin; `work` itself has to see to its errors."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        """Cancel what is under way, without waiting for its end."""
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """Cancel what is under way, and return when all of it has ended."""
        self.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
