"""resourceVersions of objects that exist only here, and waiting for them to change."""

from __future__ import annotations

import asyncio

from kip.model.clock import Clock


class ResourceVersions:
    """Decimal numbers that only grow, across restarts of the operator too.

    Kubelets from 1.35 on compare a Node's resourceVersion as an int64 and keep what they know when it goes back
    (`kubelet_nodecache.go`), so a new process must begin above what an earlier one gave out: microseconds of the
    wall clock do, and stay below 2^63 for longer than it matters.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0

    def next(self) -> str:
        self._last = max(self._last + 1, int(self._clock.now().timestamp() * 1_000_000))
        return str(self._last)


class Signal:
    """Wakes everybody who waits, whenever it is fired. Fires that nobody waits for are forgotten."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next: asyncio.Future[None] | None = None

    def fire(self) -> None:
        if self._next is not None and not self._next.done():
            self._next.set_result(None)
        self._next = None

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Return True at the next fire, False after `timeout_s`."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait({self._next}, timeout=timeout_s)
        return bool(done)
