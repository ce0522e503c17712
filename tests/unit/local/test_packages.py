"""Missing Debian packages are installed or named."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kip.local import packages
from kip.local.packages import Package, PackagesMissingError, ensure
from kip.local.progress import Silent

PRESENT = Package("coreutils", "/bin/sh")
ABSENT = Package("some-package", "no-such-program-anywhere")


class Apt:
    """Answers instead of apt-get: how often each command fails before it succeeds."""

    def __init__(self, **failures: int) -> None:
        self.failures = failures
        self.ran: list[str] = []

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert "DPkg::Lock::Timeout=120" in command, "it would give up at once when another apt runs"
        [verb] = {"install", "update"} & {*command}
        self.ran.append(verb)
        left = self.failures.get(verb, 0)
        self.failures[verb] = left - 1
        return subprocess.CompletedProcess(command, int(left > 0), "", "first\nE: Unable to locate package\n")


@pytest.fixture
def _root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        packages.shutil, "which", lambda name, **_: "/usr/bin/apt-get" if name == "apt-get" else None
    )


def apt(monkeypatch: pytest.MonkeyPatch, **failures: int) -> Apt:
    fake = Apt(**failures)
    monkeypatch.setattr(subprocess, "run", fake)
    return fake


def test_what_is_there_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = apt(monkeypatch)
    ensure([PRESENT], Silent())
    assert fake.ran == []


def test_without_root_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PackagesMissingError) as caught:
        ensure([PRESENT, ABSENT, Package("another", "/no/such/file")], Silent())
    assert str(caught.value) == (
        "Debian packages are missing; as root: apt-get install --no-install-recommends another some-package"
    )


@pytest.mark.usefixtures("_root")
def test_as_root_they_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = apt(monkeypatch)
    ensure([ABSENT], Silent())
    assert fake.ran == ["install"]


@pytest.mark.usefixtures("_root")
def test_old_package_lists_are_updated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = apt(monkeypatch, install=1)
    ensure([ABSENT], Silent())
    assert fake.ran == ["install", "update", "install"]


@pytest.mark.usefixtures("_root")
def test_what_apt_cannot_install_is_told_with_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    apt(monkeypatch, install=2)
    with pytest.raises(PackagesMissingError, match=r"install .* some-package: E: Unable to locate package"):
        ensure([ABSENT], Silent())


def test_a_program_only_root_has_on_its_path_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(packages, "_SYSTEM_PATHS", (str(tmp_path),))
    (tmp_path / "runc-like").touch(0o755)
    assert Package("x", "runc-like").present


def test_the_path_is_completed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/usr/sbin")
    for _ in range(2):
        packages.complete_path()
        assert os.environ["PATH"] == "/usr/bin:/usr/sbin:/usr/local/sbin:/sbin"
