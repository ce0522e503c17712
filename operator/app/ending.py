"""The end of the process: asked for politely, in bounded time whatever hangs."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)

# Kubernetes kills a container 30 s after SIGTERM; letting go of a node takes a second or two. A spare takes a node that
# was not given up ten seconds after the last renewal, so waiting longer than this gains nothing.
PATIENCE_S = 8.0


class Ending:
    """Turns the first signal into a request, and makes sure that the process ends after it."""

    def __init__(self, *, patience_s: float = PATIENCE_S, die: Callable[[int], None] = os._exit) -> None:
        self._patience_s = patience_s
        self._die = die
        self._asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def wait(self) -> None:
        """Return once the process was asked to end."""
        await self._asked.wait()

    def asked(self, number: int) -> None:
        """A signal has come; the second one ends the process at once."""
        if self._asked.is_set():
            self._die(128 + number)
            return
        log.info("ending", signal=signal.Signals(number).name)
        self._asked.set()
        self.within_bounds()

    def within_bounds(self) -> None:
        """From now on the process has `patience_s` to end by itself."""
        # A thread: the event loop itself may be what hangs, and after it the interpreter waits for threads of libraries.
        timer = threading.Timer(self._patience_s, self._give_up)
        timer.daemon = True
        timer.start()

    async def run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Do this until it is done or the process is asked to end by SIGTERM or SIGINT. Raises what it raises."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.asked, number)
        working = asyncio.create_task(work, name=name)
        stopped = asyncio.create_task(self.wait(), name="until asked to end")
        await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        working.cancel()
        try:
            await working
        except asyncio.CancelledError:
            pass

    def _give_up(self) -> None:
        sys.stderr.write(f"kip did not end within {self._patience_s:g} s and is cut off; what it was at:\n")
        try:
            self._tell_tasks()
            faulthandler.dump_traceback(all_threads=True)
        finally:
            self._die(1)

    def _tell_tasks(self) -> None:
        """The tasks' stacks; they may change while this other thread looks, which is not worth a failure."""
        try:
            for task in asyncio.all_tasks(self._loop):
                task.print_stack(limit=4, file=sys.stderr)
        except RuntimeError as error:
            sys.stderr.write(f"(the tasks cannot be told: {error})\n")
