"""What apt and dpkg refuse is told; what they give is tried by the machines of the e2e tests."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from kip.local.room import debs
from kip.local.room.debs import PackageError, extract, to_install


def test_the_packages_that_are_not_installed_are_read_from_a_simulation() -> None:
    assert to_install("NOTE: this\nInst jq (1.6 Debian)\nInst libjq1 (1.6)\nConf jq (1.6)\n") == [
        "jq",
        "libjq1",
    ]


def test_a_package_that_cannot_be_unpacked_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: tuple[str, ...], *, cwd: str | None = None, **_: Any) -> Any:
        if "download" in command:
            assert cwd
            (Path(cwd) / "jq.deb").touch()
        code = 2 if command[0] == "dpkg-deb" else 0
        return subprocess.CompletedProcess(command, code, "Inst jq (1.6)\n", "tar: No space left on device\n")

    monkeypatch.setattr(debs.shutil, "which", lambda _: "/usr/bin/apt-get")
    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(PackageError, match=r"dpkg-deb --extract .*jq\.deb .*No space left on device"):
        extract(["jq"], tmp_path)
