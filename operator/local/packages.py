"""Debian packages that the local world needs on this host; installed when missing and allowed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kip.local.progress import Progress
from kip.local.world import WorldError

# Not on every user's PATH, nor on root's after a plain `su`: there are ip, nft, losetup and runc.
_SYSTEM_PATHS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
# apt waits so long for another apt (an upgrade that runs by itself, a second world) instead of giving up at once.
APT_WAITS = ("-o", "DPkg::Lock::Timeout=120")  # seconds


def complete_path() -> None:
    """Appends the system's directories to the PATH of this process and of all that it starts."""
    os.environ["PATH"] = _whole_path()


def _whole_path() -> str:
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join([*path, *(each for each in _SYSTEM_PATHS if each not in path)])


@dataclass(frozen=True)
class Package:
    """A package and a file or program whose presence shows that it, or another's equal, is installed."""

    name: str
    shows: str

    @property
    def present(self) -> bool:
        """Whether what it shows is there: an absolute path, or a program on the PATH or the system's."""
        if self.shows.startswith("/"):
            return Path(self.shows).exists()
        return shutil.which(self.shows, path=_whole_path()) is not None


# What the host runs to make the VPC and to boot machines; what the machines themselves need is in their image.
NETWORK_PACKAGES = (Package("iproute2", "ip"), Package("util-linux", "nsenter"), Package("mount", "umount"))
ROOM_PACKAGES = (*NETWORK_PACKAGES, Package("mount", "losetup"), Package("runc", "runc"))


class PackagesMissingError(WorldError):
    """Packages are missing and cannot be installed from here; the message is the command that does it."""


def ensure(packages: Iterable[Package], progress: Progress) -> None:
    """Installs what is missing. Raises PackagesMissingError where that is not possible."""
    missing = sorted({package.name for package in packages if not package.present})
    if not missing:
        return
    command = f"apt-get install --no-install-recommends {' '.join(missing)}"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise PackagesMissingError(f"Debian packages are missing; as root: {command}")
    with progress.step(f"install Debian packages: {' '.join(missing)}", usual=20):
        _install(missing, command)


def _install(names: list[str], command: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", *APT_WAITS, "install", "--yes", "--quiet", "--no-install-recommends", *names]
    refused = _run(install, environment)
    if refused:  # the lists may be missing (a fresh image) or too old
        refused = _run(["apt-get", *APT_WAITS, "update", "--quiet"], environment) or _run(
            install, environment
        )
    if refused:
        raise PackagesMissingError(f"{command}: {refused}")


def _run(command: list[str], environment: dict[str, str]) -> str | None:
    """Why the command failed, its last line; None when it did not."""
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if not done.returncode:
        return None
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"
