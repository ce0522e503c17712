"""Prometheus' programs for tests: the host's, or else those of Debian's package, which is unpacked and not installed.

Installed, the package would start a server on the host that runs the tests.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from kip.local import build
from kip.local.room import debs


@cache
def find(name: str) -> str:
    """The path of `prometheus` or `promtool`; where there is none and none can be had, the test ends."""
    if found := shutil.which(name):
        return found
    directory = build.cache_directory() / "prometheus-debian"
    program = directory / "usr/bin" / name
    if not program.exists():
        try:
            _unpack(directory)
        except debs.PackageError as error:
            why = f"no {name} on this machine (Debian package prometheus): {error}"
            # Only root can refresh apt's lists; for everybody else it may be as it is.
            (pytest.fail if os.geteuid() == 0 else pytest.skip)(why)
    return str(program)


def _unpack(directory: Path) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as made:
        debs.extract(["prometheus"], Path(made) / "files")
        with suppress(OSError):  # another session was faster
            (Path(made) / "files").rename(directory)
