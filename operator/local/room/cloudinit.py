"""Plays cloud-init inside a machine: fetches the instance's user data by IMDSv2 and does what it says.

This file and `userdata` are copied into the machine image and run there as root, as two systemd units named and
ordered like cloud-init's own: `init` (bootcmd, write_files, ssh; before sshd) and `final` (deferred files, shell
scripts, runcmd; after the network). They import the standard library and PyYAML only, and what is costly to import
only where it is needed: a machine should be up in a second.

As with cloud-init, `ssh_deletekeys` (default true) removes host keys that write_files brought, scripts run in the
order of their file names, and a failed command does not stop the ones after it.
"""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kip.local.room.userdata import Script, content_of, read, shell_script

METADATA_HOST = "169.254.169.254"
STATE = Path("var/lib/cloud/instance")
CONSOLE = Path("var/log/cloud-init-output.log")

_KEY_TYPES = ("ed25519", "ecdsa")  # Amazon Linux 2023's ssh_genkeytypes
_ROOT_DISABLED = (
    "no-port-forwarding,no-agent-forwarding,no-X11-forwarding,"
    'command="echo \'Please login as the user \\"ec2-user\\" rather than the user \\"root\\".\';sleep 10;exit 142" '
)


class Machine:
    """The machine on which instructions are carried out. Failures are told and counted, never fatal."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root
        self.failures = 0

    def say(self, text: str) -> None:
        """A line for the journal (standard output) and the console."""
        print(text, flush=True)
        with (self.root / CONSOLE).open("a") as console:
            console.write(f"[{time.monotonic():12.3f}] cloud-init: {text}\n")

    def fail(self, text: str) -> None:
        """A line about something that did not work; the unit will end as failed."""
        self.failures += 1
        self.say(f"ERROR: {text}")

    def run(self, what: str, command: Sequence[str | Path]) -> None:
        """Runs a command; its output goes to the console and, when it is done, to the journal.

        The command writes to the console's file itself: a pipe would be kept open by whatever it leaves
        running in the background.
        """
        path = self.root / CONSOLE
        with path.open("ab") as console:
            begin = console.tell()
            done = subprocess.run(command, stdout=console, stderr=subprocess.STDOUT, check=False, cwd="/")
        with path.open("rb") as console:
            console.seek(begin)
            shutil.copyfileobj(console, sys.stdout.buffer)
            sys.stdout.flush()
        if done.returncode:
            self.fail(f"{what}: exit code {done.returncode}")

    def run_script(self, what: str, script: Script) -> None:
        """Stores a script where cloud-init does and runs it."""
        path = self.root / STATE / "scripts" / script.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(script.body)
        path.chmod(0o700)
        try:
            self.run(what, [path])
        except OSError as error:
            self.fail(f"{what}: {error}")

    def write_files(self, entries: Any, *, deferred: bool) -> None:
        """Writes those of write_files' entries whose turn it is."""
        for entry in _list_of("write_files", entries, self):
            if not isinstance(entry, dict) or "path" not in entry:
                self.fail(f"write_files: an entry without a path: {entry!r:.80}")
            elif bool(entry.get("defer")) == deferred:
                try:
                    self._write(entry)
                except (OSError, ValueError, EOFError, subprocess.CalledProcessError) as error:
                    self.fail(f"write_files: {entry['path']}: {error}")

    def _write(self, entry: Mapping[str, Any]) -> None:
        path = self.root / str(entry["path"]).lstrip("/")
        content, mode = content_of(entry), entry.get("permissions", 0o644)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab" if entry.get("append") else "wb") as file:
            file.write(content)
        path.chmod(mode if isinstance(mode, int) else int(str(mode), 8))
        user, _, group = str(entry.get("owner", "root:root")).partition(":")
        if (user, group) != ("root", "root"):
            subprocess.run(["chown", f"{user}:{group}" if group else user, path], check=True)

    def prepare_ssh(self, config: Mapping[str, Any]) -> None:
        """Host keys and authorized keys, as cloud-init's module `ssh` leaves them."""
        directory = self.root / "etc/ssh"
        if config.get("ssh_deletekeys", True):
            for key in directory.glob("ssh_host_*key*"):
                key.unlink()
        given = config.get("ssh_keys")
        if isinstance(given, dict):
            for name, text in given.items():
                self._write_host_key(directory, str(name), str(text))
        else:
            self._generate_host_keys(directory, config.get("ssh_genkeytypes", _KEY_TYPES))
        keys = [str(key) for key in _list_of("ssh_authorized_keys", config.get("ssh_authorized_keys"), self)]
        if keys:
            self._authorize("home/ec2-user", keys, owner="ec2-user")
            prefix = _ROOT_DISABLED if config.get("disable_root", True) else ""
            self._authorize("root", [prefix + key for key in keys], owner="root")

    def _write_host_key(self, directory: Path, name: str, text: str) -> None:
        kind, _, half = name.rpartition("_")
        if half not in {"private", "public", "certificate"} or not kind:
            self.fail(f"ssh_keys: {name!r}: expected <type>_private, <type>_public or <type>_certificate")
            return
        suffix = {"private": "", "public": ".pub", "certificate": "-cert.pub"}[half]
        path = directory / f"ssh_host_{kind}_key{suffix}"
        path.write_text(text if text.endswith("\n") else text + "\n")
        path.chmod(0o600 if half == "private" else 0o644)

    def _generate_host_keys(self, directory: Path, kinds: Any) -> None:
        for kind in kinds:
            path = directory / f"ssh_host_{kind}_key"
            if not path.exists():
                self.run("ssh-keygen", ["ssh-keygen", "-q", "-t", str(kind), "-N", "", "-f", path])

    def _authorize(self, home: str, keys: Sequence[str], owner: str) -> None:
        path = self.root / home / ".ssh/authorized_keys"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("a") as file:
            file.writelines(f"{key}\n" for key in keys)
        path.chmod(0o600)
        if owner != "root":
            shutil.chown(path.parent, owner, owner)
            shutil.chown(path, owner, owner)


def play_init(machine: Machine, user_data: bytes) -> None:
    """cloud-init's first stage with network: boot hooks, bootcmd, write_files, ssh."""
    found = read(user_data)
    for problem in found.problems:
        machine.fail(problem)
    for hook in found.boothooks:
        machine.run_script(f"boot hook {hook.name}", hook)
    if commands := _list_of("bootcmd", found.config.get("bootcmd"), machine):
        machine.run_script("bootcmd", Script("../bootcmd", shell_script(commands).encode()))
    machine.write_files(found.config.get("write_files"), deferred=False)
    machine.prepare_ssh(found.config)


def play_final(machine: Machine, user_data: bytes) -> None:
    """cloud-init's last stage: deferred files, then scripts and runcmd in the order of their names."""
    found = read(user_data)
    machine.write_files(found.config.get("write_files"), deferred=True)
    scripts = list(found.scripts)
    if commands := _list_of("runcmd", found.config.get("runcmd"), machine):
        scripts.append(Script("runcmd", shell_script(commands).encode()))
    for script in sorted(scripts, key=lambda script: script.name):
        machine.run_script(script.name, script)


def _list_of(key: str, value: Any, machine: Machine) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, list):
        return value
    machine.fail(f"{key}: expected a list, found {type(value).__name__}")
    return []


def fetch(path: str, host: str = METADATA_HOST, patience: float = 30.0) -> bytes | None:
    """What IMDS serves at that path, None if it has nothing there.

    Args:
        path: below `/latest/`.
        host: where IMDS is.
        patience: seconds to wait for IMDS to answer at all.

    Raises:
        OSError: no answer, or one that is neither 200 nor 404.
    """
    token = _ask(host, "PUT", "api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "300"}, patience)
    if token is None:
        raise OSError(f"IMDS at {host} gives no token")
    return _ask(host, "GET", path, {"X-aws-ec2-metadata-token": token.decode()}, patience)


def _ask(host: str, method: str, path: str, headers: Mapping[str, str], patience: float) -> bytes | None:
    deadline = time.monotonic() + patience
    while True:
        try:
            connection = http.client.HTTPConnection(host, timeout=5)
            connection.request(method, f"/latest/{path}", headers=dict(headers))
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
            continue
        if answer.status not in {200, 404}:
            raise OSError(f"IMDS answers {method} /latest/{path} with {answer.status}: {body[:200]!r}")
        return body if answer.status == 200 else None


def main(stage: str) -> int:
    """Plays one stage on this machine; 1 if anything of it failed."""
    machine = Machine()
    kept = machine.root / STATE / "user-data.txt"
    try:
        if stage == "init":
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(fetch("user-data") or b"")
            kept.chmod(0o600)
        play = {"init": play_init, "final": play_final}[stage]
        play(machine, kept.read_bytes())
    except (OSError, EOFError) as error:
        machine.fail(f"{stage}: {error}")
    machine.say(f"{stage}: {f'{machine.failures} failures' if machine.failures else 'done'}")
    return 1 if machine.failures else 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main(sys.argv[1]))
