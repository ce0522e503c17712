"""A terminal with a program on it, and a person at its keyboard."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence

_ANSWER = 20.0  # seconds


class Terminal:
    """Our side of a terminal on which a shell runs."""

    def __init__(self, descriptor: int, program: subprocess.Popen[bytes]) -> None:
        self._descriptor = descriptor
        self._program = program
        self._asked = 0

    def type(self, text: str) -> None:
        """As a person at the keyboard."""
        os.write(self._descriptor, text.encode())

    def answer(self, command: str) -> str:
        """What the shell's command prints.

        Told by a line after it and not by the next prompt: a shell draws its prompt anew whenever the terminal's size
        changes. The quotes are in what is typed, and so on the screen, but not in what is printed.
        """
        self._asked += 1
        self.type(f"{command}; echo end'{self._asked}'\n")
        return self.until(f"end{self._asked}")

    def until(self, text: str, timeout: float = _ANSWER) -> str:
        """All that appears, until the text has. Raises AssertionError when it does not in `timeout` seconds."""
        seen = ""
        deadline = time.monotonic() + timeout
        while text not in seen:
            left = deadline - time.monotonic()
            assert select.select([self._descriptor], [], [], max(0.0, left))[0], f"no {text!r} in {seen!r}"
            seen += os.read(self._descriptor, 4096).decode(errors="replace")
        return seen

    def ended(self, timeout: float = _ANSWER) -> int:
        """The program's exit code. Raises AssertionError when it still runs after `timeout` seconds."""
        try:
            return self._program.wait(timeout)
        except subprocess.TimeoutExpired:
            screen = ""
            if select.select([self._descriptor], [], [], 0)[0]:
                screen = os.read(self._descriptor, 4096).decode(errors="replace")
            raise AssertionError(
                f"still running after {timeout:g} s; last on the screen: {screen!r}"
            ) from None


@contextlib.contextmanager
def terminal(
    command: Sequence[str], environment: Mapping[str, str], *, rows: int, columns: int
) -> Iterator[Terminal]:
    """The command on a terminal of that size, as the leader of a session; killed at the block's end."""
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        with subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
        ) as program:
            os.close(theirs)
            try:
                yield Terminal(ours, program)
            finally:
                program.kill()
    finally:
        os.close(ours)
