"""An sshd for tests: the host's, or else the one of Debian's package, which is unpacked and not installed.

Installed, openssh-server would let people into the host that runs the tests.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from kip.local import build
from kip.local.room import debs

_SYSTEM_PATH = "/usr/sbin:/usr/local/sbin:/usr/bin"
_UNPRIVILEGED = (
    "sshd"  # the user that sshd's part without rights runs as; openssh-server's installation makes it
)


@dataclass(frozen=True)
class Program:
    """How to start sshd: `[*command, arguments…]` with this environment."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


@cache
def find() -> Program | str:
    """The program, or why there is none."""
    if found := shutil.which("sshd", path=_SYSTEM_PATH):
        return Program((found,))
    if os.geteuid() != 0:
        return "no sshd on this machine (package openssh-server), and only root can run one that is not installed"
    try:
        return _unpacked(build.cache_directory() / "openssh-server")
    except debs.PackageError as error:
        return f"no sshd on this machine: {error}"


def _unpacked(directory: Path) -> Program:
    if not (directory / "usr/sbin/sshd").exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent) as made:
            debs.extract(["openssh-server"], Path(made) / "files")
            with suppress(OSError):  # another session was faster
                (Path(made) / "files").rename(directory)
    libraries = sorted({str(file.parent) for file in directory.rglob("*.so.*")})
    environment = {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(libraries)}
    return Program(_with_its_user((str(directory / "usr/sbin/sshd"),)), environment)


def _with_its_user(command: tuple[str, ...]) -> tuple[str, ...]:
    """The command among users of whom one is sshd's: the host's list of users stays as it is."""
    with suppress(KeyError):
        pwd.getpwnam(_UNPRIVILEGED)
        return command
    users = f"{_UNPRIVILEGED}:x:65534:65534::/run/sshd:/usr/sbin/nologin"
    script = (
        f"mount -t tmpfs none /mnt && {{ cat /etc/passwd; echo {users}; }} >/mnt/passwd"
        f' && mount --bind /mnt/passwd /etc/passwd && umount -l /mnt && exec {shlex.join(command)} "$@"'
    )
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sshd")
