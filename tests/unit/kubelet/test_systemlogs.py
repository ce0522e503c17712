"""What is asked of a cell for its own programs' logs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from kip.kubelet.http1 import HttpError
from kip.kubelet.systemlogs import MOST_BYTES, MOST_LINES, USUAL_LINES, SystemLogOptions, command, parse


def test_all_units_and_so_many_lines_if_nothing_else_is_said() -> None:
    assert parse([]) == SystemLogOptions(("kubelet", "containerd", "cloud-init"), USUAL_LINES, None)


def test_parameters_as_of_a_kubelet() -> None:
    query = [
        ("query", "containerd"),
        ("query", "kubelet"),
        ("tailLines", "0"),
        ("sinceTime", "1970-01-01T01:00:00.5+01:00"),
    ]
    assert parse(query) == SystemLogOptions(("kubelet", "containerd"), 0, 0)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("query", "sshd", "query: 'sshd', expected kubelet, containerd, cloud-init"),
        ("query", "kubelet; id", "query: 'kubelet; id', expected"),
        ("tailLines", "-1", "tailLines: '-1', expected a whole number up to 10000"),
        ("tailLines", str(MOST_LINES + 1), "expected a whole number up to 10000"),
        ("tailLines", "1; id", "tailLines"),
        ("sinceTime", "yesterday", "sinceTime: 'yesterday', expected a time like"),
        ("pattern", ".*", "'pattern': expected query, tailLines or sinceTime"),
    ],
)
def test_what_is_refused(name: str, value: str, told: str) -> None:
    with pytest.raises(HttpError, match=told.replace("(", r"\(")) as refused:
        parse([(name, value)])
    assert refused.value.status == 400


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journalctl that says what it was asked, and then prints without regard for anybody."""
    program = tmp_path / "journalctl"
    program.write_text('#!/bin/sh\necho "asked: $*" >&2\nyes noise | head -c "${NOISE:-0}"\necho end\n')
    program.chmod(0o755)
    return tmp_path


def run(options: SystemLogOptions, path: Path, **environment: str) -> str:
    done = subprocess.run(
        ["bash", "-c", command(options)],
        env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def test_the_command_works_in_a_shell(journal: Path) -> None:
    asked, end = run(SystemLogOptions(("kubelet",), 20, 1_700_000_000), journal).splitlines()
    assert (
        asked == "asked: --no-pager --quiet --utc -o short-iso -n 20 --since @1700000000 -u kubelet.service"
    )
    assert end == "end"


def test_units_are_read_together(journal: Path) -> None:
    asked = run(SystemLogOptions(("kubelet", "containerd", "cloud-init")), journal).splitlines()[0]
    assert asked.count("-u ") == 8
    assert "-u containerd.service" in asked
    assert "-u cloud-final.service" in asked


def test_it_prints_no_more_than_may_come(journal: Path) -> None:
    printed = run(SystemLogOptions(("kubelet",)), journal, NOISE=str(2 * MOST_BYTES))
    assert len(printed) == MOST_BYTES
    assert printed.endswith("end\n"), "the newest is kept"
