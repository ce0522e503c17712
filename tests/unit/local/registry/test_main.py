"""The registry as the process that a world starts."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from kip.local.registry import load

_COMMAND = [sys.executable, "-m", "kip.local.registry", "--host", "127.0.0.1"]


def test_serves_until_it_is_told_to_stop_and_keeps_what_it_was_given(
    tmp_path: Path, named_image: Callable[[str], Path]
) -> None:
    image = named_image("a.local/b:1")
    first, url = started(tmp_path)
    assert load(image, url) == ["a.local/b:1"]
    log = stopped(first)
    assert '"PUT /v2/b/manifests/1?ns=a.local HTTP/1.1" 201' in log
    second, url = started(tmp_path)
    assert load(image, url) == ["a.local/b:1"]
    log = stopped(second)
    assert "POST" not in log, "its blobs were still there"


def test_says_when_the_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*_COMMAND, "--port", str(port), "--state", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"Error: cannot listen on 127.0.0.1:{port}: ")
    assert "in use" in last


def started(state: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [*_COMMAND, "--port", "0", "--state", str(state / "registry")], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r"serving \S+ on (http://\S+)$", line)
    if not found:
        process.kill()
        raise AssertionError(f"it said {line!r}, then {process.communicate()[1]}")
    return process, found[1]


def stopped(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=20)
    assert process.returncode == 0, log
    return log
