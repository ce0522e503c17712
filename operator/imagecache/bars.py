"""How far the layers of an image are: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from kip.images.pull import LayerProgress
from kip.model.quantity import human_bytes

_PLAIN_EVERY_S = 10.0


class Bars:
    """A bar for each layer, or a line every ten seconds and one for each layer that is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._last = time.monotonic()

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def layer(self, news: LayerProgress) -> None:
        """How far a layer is."""
        name, of = news.layer.digest.removeprefix("sha256:")[:12], news.layer.blob_bytes
        if self._console.is_terminal:
            self._moved(name, news.come_bytes, of)
        elif news.come_bytes >= of:
            self._say(f"  {name}: {human_bytes(of)}, done")
        elif time.monotonic() - self._last >= _PLAIN_EVERY_S:
            self._say(f"  {name}: {human_bytes(news.come_bytes)} of {human_bytes(of)}")

    def files(self, what: str, done_bytes: int, total_bytes: int) -> None:
        """How much of all files has been read."""
        if self._console.is_terminal:
            self._moved(what, done_bytes, total_bytes)
        elif time.monotonic() - self._last >= _PLAIN_EVERY_S:
            self._say(f"  {what}: {human_bytes(done_bytes)} of {human_bytes(total_bytes)}")

    def _moved(self, name: str, done: int, of: int) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=of)
        self._progress.update(self._tasks[name], completed=done, total=of)

    def _say(self, line: str) -> None:
        self._last = time.monotonic()
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
