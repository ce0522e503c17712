"""Documents whose commands are run: the blocks in them that say so, a shell that goes through them, and a comparison.

A block is run when the line above it is `<!-- run -->`, which no reader sees. It is a ```console: lines that begin with
`$ ` are commands, those below are what they print. In these `…` stands for anything, and a line that is nothing else for
any number of lines; how many blanks there are between words does not matter. A command that shows no output may print
anything. All must end with 0.
"""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_BLOCK = re.compile(r"^<!-- run -->\n```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_END = "-- kip: the command has ended: "


@dataclass(frozen=True)
class Step:
    """A command of a document, and what the document says that it prints; None where it says nothing."""

    command: str
    shown: str | None
    where: str


def steps(document: Path) -> Iterator[Step]:
    """All commands of a document that are to be run, in order."""
    text = document.read_text()
    for block in _BLOCK.finditer(text):
        line = text[: block.start(1)].count("\n") + 1
        for part in re.split(r"^\$ ", block[1], flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            yield Step(command, shown or None, f"{document.name}:{line}")
            line += part.count("\n")


def matches(shown: str, printed: str) -> bool:
    """Whether a document's words about a command's output are true of what it printed."""
    lines = (
        r"(?:.*\n)*?" if line.strip() == "…" else _line(line) + r"\n" for line in shown.rstrip().splitlines()
    )
    printed = "".join(f"{line.rstrip()}\n" for line in printed.rstrip().splitlines())
    return re.fullmatch("".join(lines), printed) is not None


def _line(line: str) -> str:
    words = (".*".join(map(re.escape, word.split("…"))) for word in line.split())
    return r"[ \t]*" + r"[ \t]+".join(words)


class Shell:
    """One bash that runs command after command, so that variables and functions stay, as on a person's terminal."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)  # also what the last command has started
        self._process.communicate()

    def run(self, command: str, timeout_s: float) -> str:
        """What the command prints. Raises AssertionError: it failed, or takes too long."""
        assert self._process.stdin is not None
        # Its standard input is nothing: it must not eat the next command.
        self._process.stdin.write(f"{{ {command}\n}} </dev/null; printf '\\n%s%s\\n' '{_END}' $?\n".encode())
        self._process.stdin.flush()
        printed, status = self._until_end(command, timeout_s)
        assert status == "0", f"$ {command}\n{printed}\nended with {status}"
        return printed

    def _until_end(self, command: str, timeout_s: float) -> tuple[str, str]:
        assert self._process.stdout is not None
        said, deadline = b"", time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not (end := re.search(rf"\n{_END}(\d+)\n".encode(), said)):
                left_s = deadline - time.monotonic()
                ready = left_s > 0 and selector.select(left_s)
                assert ready, f"$ {command}\n{said.decode()}\ntakes more than {timeout_s:g} s"
                chunk = self._process.stdout.read1(65536)  # type: ignore[attr-defined]
                assert chunk, f"$ {command}\n{said.decode()}\nended the shell"
                said += chunk
        return said[: end.start()].decode(), end[1].decode()
