"""Runs kopf in a thread of its own.

kopf cancels every task of its event loop when it stops, and it stops on any error in a watch that it does not know.
In its own loop that costs a restart of the watches; in the operator's it would cost every connection to a cell.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import kopf
import structlog

from kip.context import Context, Object, Sightings
from kip.handlers import registry

log = structlog.get_logger(__name__)

_RESTART_S = 1.0
# Watches that have lasted for so long work.
_SOUND_S = 10.0
_STOP_S = 1.0


class Watches:
    """kopf, watching what the table in `registry` says, for one virtual node."""

    def __init__(
        self,
        sightings: Sightings,
        *,
        node_name: str,
        login: Callable[[], Awaitable[kopf.ConnectionInfo]],
        on_restart: Callable[[], None] = lambda: None,
    ) -> None:
        """`login` is called in kopf's thread whenever credentials are needed (and again when they are refused)."""
        self._sightings = sightings
        self._node_name = node_name
        self._login = login
        self._on_restart = on_restart
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.trouble: str | None = None
        """Why the watches ended lately; None once they have lasted for a while."""

    async def run(self) -> None:
        """Watch until cancelled; a kopf that ends by itself is started again."""
        self._loop = asyncio.get_running_loop()
        while True:
            self._stop = threading.Event()
            ended = self._loop.create_future()
            thread = threading.Thread(target=self._in_thread, args=(ended,), name="kopf", daemon=True)
            thread.start()
            try:
                await asyncio.wait((ended,), timeout=_SOUND_S)
                if not ended.done():
                    self.trouble = None
                error = await asyncio.shield(ended)
            except asyncio.CancelledError:
                # What it still sees is not passed on any more; whoever lets go of a node cannot wait for it long.
                self._stop.set()
                await asyncio.wait((ended,), timeout=_STOP_S)
                raise
            log.error("watches ended by themselves; starting them again", error=repr(error))
            self.trouble = repr(error)
            self._on_restart()
            await asyncio.sleep(_RESTART_S)

    def _in_thread(self, ended: asyncio.Future[BaseException | None]) -> None:
        error: BaseException | None = None
        try:
            asyncio.run(self._operator())
        except BaseException as caught:
            error = caught
        loop = self._loop
        if loop is not None and not loop.is_closed():
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, ended, error)

    async def _operator(self) -> None:
        table = registry.watched(self._node_name)
        built = registry.build(table)

        @kopf.on.login(registry=built)
        async def login(**_: Any) -> kopf.ConnectionInfo:
            return await self._login()

        stop = self._stop
        try:
            await kopf.operator(
                registry=built,
                settings=registry.settings(table),
                memo=Context(sightings=self._sightings, post=self._post),
                clusterwide=True,
                standalone=True,
                stop_flag=stop,
            )
        finally:
            # kopf waits for the flag in a thread of its event loop's pool. When kopf ends by an error, that thread still
            # waits, and the event loop waits for the thread: nobody would hear that the watches have ended.
            stop.set()

    def _post(self, function: Callable[[str | None, Object], None], kind: str | None, obj: Object) -> None:
        loop = self._loop
        if loop is not None and not self._stop.is_set():
            with contextlib.suppress(RuntimeError):  # the operator's loop has just been closed
                loop.call_soon_threadsafe(function, kind, obj)


def _settle(ended: asyncio.Future[BaseException | None], error: BaseException | None) -> None:
    if not ended.done():
        ended.set_result(error)
