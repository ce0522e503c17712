"""Pages whose examples are run: files in them are written, commands in them called, and what those say compared.

A block ```yaml or ```json whose first line is `# NAME` (for JSON: the sentence before it ends with `NAME`:) is a file.
A block ```console has lines `$ kip …` and below each what it prints.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from click.testing import CliRunner

_BLOCK = re.compile(r"^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"# (\S+\.ya?ml)\n")


def run(page: str) -> str:
    """The page with what its commands really say."""
    with tempfile.TemporaryDirectory() as directory, _working_in(Path(directory)):
        for block in _BLOCK.finditer(page):
            name = _NAME.match(block["body"])
            if name:
                Path(name[1]).write_text(block["body"])
        return _BLOCK.sub(_answered, page)


def _answered(block: re.Match[str]) -> str:
    if block["kind"] != "console":
        return block[0]
    commands = [line for line in block["body"].splitlines() if line.startswith("$ ")]
    return "```console\n" + "\n".join(f"{line}\n{_said(line[2:])}" for line in commands) + "```"


def _said(command: str) -> str:
    from kip import cli  # noqa: PLC0415 - the page's text alone needs none of it

    program, *arguments = shlex.split(command)
    if program != "kip":
        raise ValueError(f"only kip is run, not {command!r}")
    result = CliRunner().invoke(cli.main, arguments, env={"AWS_REGION": None, "AWS_DEFAULT_REGION": None})
    return result.output


@contextmanager
def _working_in(directory: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(run(path.read_text()))
