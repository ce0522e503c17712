"""What `kip local` tells people while it works: one line per step, with the seconds it took."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Protocol

from rich.console import Console

_PLAIN_REMINDER = 60.0  # seconds between the lines that say "still at it" where there is no terminal


class Progress(Protocol):
    """Where steps are told."""

    def step(self, title: str, *, usual: float | None = None) -> contextlib.AbstractContextManager[None]:
        """Shows a step while the block runs; `usual` is how long it usually takes, in seconds."""
        ...

    def note(self, text: str) -> None:
        """A line between the steps."""
        ...


class Silent:
    """Tells nothing: for callers that are not people."""

    def step(self, title: str, *, usual: float | None = None) -> contextlib.AbstractContextManager[None]:
        """Runs the block."""
        return contextlib.nullcontext()

    def note(self, text: str) -> None:
        """Drops the line."""


class ConsoleProgress:
    """A live line with the elapsed time on a terminal; plain lines, also while a long step runs, elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)

    def note(self, text: str) -> None:
        """Prints the line."""
        self._console.print(text, markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def step(self, title: str, *, usual: float | None = None) -> Iterator[None]:
        """Shows the step while the block runs, then one line with its seconds or that it failed."""
        begun = time.monotonic()
        shown = f"{title} (usually {span(usual)})" if usual else title
        if usual and not self._console.is_terminal:
            self.note(f"      … {shown}")
        try:
            with self._live(shown) if self._console.is_terminal else self._reminders(title):
                yield
        except BaseException:
            self.note(f"{time.monotonic() - begun:5.1f}s ✗ {title}")
            raise
        self.note(f"{time.monotonic() - begun:5.1f}s ✓ {title}")

    @contextlib.contextmanager
    def _live(self, shown: str) -> Iterator[None]:
        with (
            self._console.status(shown) as status,
            _every(1.0, lambda s: status.update(f"{shown} {span(s)}")),
        ):
            yield

    @contextlib.contextmanager
    def _reminders(self, title: str) -> Iterator[None]:
        with _every(_PLAIN_REMINDER, lambda s: self.note(f"      … {title}: {span(s)} so far")):
            yield


class _Tell(Protocol):
    def __call__(self, seconds: float, /) -> None: ...


@contextlib.contextmanager
def _every(interval: float, tell: _Tell) -> Iterator[None]:
    """Calls `tell` with the seconds passed, from a thread, while the block runs."""
    begun = time.monotonic()
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(interval):
            tell(time.monotonic() - begun)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def span(seconds: float) -> str:
    """A duration for people: `8 s`, `1 min 30 s`, `7 min`."""
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"
