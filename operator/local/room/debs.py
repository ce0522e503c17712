"""Programs that machines need and this host lacks, taken from Debian packages without installing them.

Installing openssh-server would start an sshd on the host. The package's files in the machine image are enough.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from kip.local.packages import APT_WAITS
from kip.local.world import WorldError

# What a machine cannot be without, and the package that has it.
REQUIRED: Mapping[str, str] = {
    "/usr/lib/systemd/systemd": "systemd",
    "/usr/sbin/sshd": "openssh-server",
    "/usr/bin/ssh-keygen": "openssh-client",
    "/usr/bin/dbus-daemon": "dbus",
    "/usr/sbin/runc": "runc",
    "/usr/sbin/ip": "iproute2",
    "/usr/sbin/nft": "nftables",
    "/usr/sbin/iptables": "iptables",
    "/usr/sbin/conntrack": "conntrack",
    "/usr/sbin/sysctl": "procps",
    "/usr/bin/socat": "socat",
    "/usr/bin/curl": "curl",
    "/usr/bin/jq": "jq",
}
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class PackageError(WorldError):
    """A package's files cannot be had; the message names the packages and apt's answer."""


def missing_packages(required: Mapping[str, str] = REQUIRED) -> list[str]:
    """Packages of which this host lacks the program, wherever below the system's PATH it may be."""
    return [
        package
        for program, package in required.items()
        if not Path(program).exists() and shutil.which(Path(program).name, path=_SYSTEM_PATH) is None
    ]


def extract(packages: list[str], destination: Path) -> None:
    """Unpacks the packages, and those of their dependencies that this host lacks, below `destination`.

    Raises:
        PackageError: this is no Debian, or apt cannot get them.
    """
    if shutil.which("apt-get") is None:
        raise PackageError(f"no apt-get on this host: install by hand what brings {', '.join(packages)}")
    with tempfile.TemporaryDirectory(prefix="kip-debs-") as directory:
        wanted = _with_dependencies(packages)
        _apt("download", *wanted, cwd=directory)
        for archive in sorted(Path(directory).glob("*.deb")):
            _run("dpkg-deb", "--extract", str(archive), str(destination))


def _with_dependencies(packages: list[str]) -> list[str]:
    command = ["install", "--simulate", "--no-install-recommends", *packages]
    try:
        return to_install(_apt(*command))
    except PackageError:
        _apt("update")  # lists that are missing or too old
        return to_install(_apt(*command))


def to_install(simulation: str) -> list[str]:
    """The packages that `apt-get install --simulate` would install."""
    return re.findall(r"^Inst (\S+)", simulation, flags=re.MULTILINE)


def _apt(*arguments: str, cwd: str | None = None) -> str:
    return _run("apt-get", "-q", *APT_WAITS, *arguments, cwd=cwd)


def _run(*command: str, cwd: str | None = None) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    except OSError as error:
        raise PackageError(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        answer = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise PackageError(f"{' '.join(command)}: {' / '.join(answer)}")
    return done.stdout
