"""Where the demonstration is told: headings, remarks, and commands that are really run, each before its output."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.text import Text

_PATIENCE = 60.0  # seconds for one command; the slowest, the start of a cell, takes 4 on an idle machine


class CommandFailed(Exception):
    """A command did not do what it should; the message says which and what happened."""


class Stage:
    """Prints, and runs shell commands in one environment."""

    def __init__(self, console: Console, environment: Mapping[str, str]) -> None:
        self._console = console
        self._environment = dict(environment)

    def heading(self, text: str) -> None:
        """Begins a part."""
        self._print()
        self._print(text, "bold underline" if self._console.is_terminal else "")
        if not self._console.is_terminal:
            self._print("-" * len(text))

    def say(self, text: str = "", style: str = "") -> None:
        """A remark; empty for a free line."""
        self._print(text, style)

    def run(
        self, command: str, *, until: Callable[[str], bool] | None = None, seconds: float = _PATIENCE
    ) -> str:
        """Shows the command, runs it, shows what it prints as it comes, and returns that.

        With `until` the command is ended at the first line for which that is true, as a person would end a watch.

        Raises:
            CommandFailed: it failed, took more than `seconds`, or ended before such a line came.
        """
        self._print()
        self._print(f"$ {command}", "bold cyan")
        lines: list[str] = []
        with self._started(command, seconds) as process:
            for line in _lines(process):
                lines.append(line)
                self._print(line)
                if until is not None and until(line):
                    return "\n".join(lines)
            code = process.wait()
        if code < 0:
            raise CommandFailed(f"`{command}` did not end within {seconds:g} s")
        if code:
            raise CommandFailed(f"`{command}` failed with exit code {code}")
        if until is not None:
            raise CommandFailed(f"`{command}` ended before what was expected came")
        return "\n".join(lines)

    def ask(self, command: str, seconds: float = _PATIENCE) -> str:
        """What the command prints, without showing anything. Raises CommandFailed."""
        try:
            done = subprocess.run(
                ["sh", "-c", command],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            raise CommandFailed(f"`{command}` did not end within {seconds:g} s") from None
        if done.returncode:
            raise CommandFailed(f"`{command}` failed: {done.stderr.strip() or done.returncode}")
        return done.stdout.strip()

    @contextmanager
    def _started(self, command: str, seconds: float) -> Iterator[subprocess.Popen[str]]:
        """The command under way; gone when the block ends, and killed after `seconds`."""
        with subprocess.Popen(
            ["sh", "-c", command],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,  # all of a pipeline can be ended at once
        ) as process:
            timer = threading.Timer(seconds, _kill, [process])
            timer.start()
            try:
                yield process
            finally:
                timer.cancel()
                _kill(process)

    def _print(self, text: str = "", style: str = "") -> None:
        # Never wrapped: tables of kubectl are wider than a terminal, and lines of others are to be found by grep.
        self._console.print(Text(text, style), soft_wrap=True)
        self._console.file.flush()


def _kill(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    if process.stdout is None:
        raise RuntimeError("the process was started without a pipe")
    for line in process.stdout:
        yield line.rstrip("\n")
