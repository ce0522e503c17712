"""A real OpenSSH sshd with the configuration that cells get, on a free loopback port."""

from __future__ import annotations

import getpass
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `sshd_program`, which is no test

import sshd_program

from kip.bootstrap import layout, units
from kip.bootstrap.options import BootstrapOptions
from kip.local.addresses import free_ports
from kip.tunnel import keys
from kip.tunnel.connection import Tunnel

_FAKE_SYSTEMCTL = '#!/bin/sh\n[ "$*" = "reload sshd.service" ] && kill -HUP "$(cat {pid_file})"\n'
_FAKE_NFT = """\
#!/bin/sh
cat >{directory}/ruleset
if grep -q broken {directory}/ruleset; then echo "Error: syntax" >&2; exit 1; fi
"""
# As when there is no such flow.
_FAKE_CONNTRACK = '#!/bin/sh\necho "$*" >>{directory}/conntrack\nexit 1\n'


@dataclass
class Sshd:
    """A running sshd that thinks it is a cell's."""

    directory: Path
    client_key: str
    host_key: str
    port: int
    api_port: int
    kubelet_port: int
    process: subprocess.Popen[bytes]

    @property
    def etc(self) -> Path:
        """Stands in for /etc/kip."""
        return self.directory / "etc"

    def dial_arguments(self, **changes: Any) -> dict[str, Any]:
        return {
            "address": "127.0.0.1",
            "port": self.port,
            "username": getpass.getuser(),
            "client_key": self.client_key,
            "host_keys": (keys.public_half(self.host_key),),
        } | changes

    def stop(self) -> None:
        """Ends it. A child that has just been forked for a connection has the listening socket for a moment longer."""
        self.process.kill()
        self.process.wait()
        deadline = time.monotonic() + 10
        while is_open(self.port):
            assert time.monotonic() < deadline, "somebody still listens on sshd's port"
            time.sleep(0.01)


def start_sshd(directory: Path) -> Sshd:
    """Starts it with the rendered drop-in, but for the paths and ports that a test must not use."""
    program = sshd_program.find()
    assert isinstance(program, sshd_program.Program), program
    client_key, host_key = keys.generate(), keys.generate()
    # Below those that the kernel gives to outgoing connections: none may take one before sshd listens.
    some = random.randrange(20_000, 32_000)
    port, api_port, kubelet_port = free_ports(
        dict.fromkeys(("ssh", "api", "kubelet"), some), used=()
    ).values()
    etc, programs = directory / "etc", directory / "bin"
    etc.mkdir()
    programs.mkdir()
    options = BootstrapOptions(
        node_name="kip-0",
        cluster_dns=(),
        first_contact_host_key=host_key,
        operator_public_key=keys.public_half(client_key),
        operator_ca_pem="-----BEGIN CERTIFICATE-----",
        dead_man_switch_s=60,
        vpc_cidrs=("10.0.0.0/16",),
    )
    (etc / "ssh_host_ed25519_key").write_text(host_key)
    (etc / "ssh_host_ed25519_key").chmod(0o600)
    authorized = units.authorized_keys(options)
    authorized = authorized.replace(":6443", f":{api_port}").replace(":10250", f":{kubelet_port}")
    (etc / "authorized_keys").write_text(authorized)
    (etc / "00-kip.conf").write_text(
        units.SSHD.replace(layout.DIRECTORY, str(etc)).replace("User root", f"User {getpass.getuser()}")
    )
    pid_file = directory / "sshd.pid"
    for name, script in (
        ("systemctl", _FAKE_SYSTEMCTL.format(pid_file=pid_file)),
        ("nft", _FAKE_NFT.format(directory=directory)),
        ("conntrack", _FAKE_CONNTRACK.format(directory=directory)),
    ):
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    config = directory / "sshd_config"
    config.write_text(
        f"Include {etc}/00-kip.conf\nListenAddress 127.0.0.1:{port}\nPidFile {pid_file}\n"
        f"StrictModes no\nUsePAM no\nSetEnv PATH={programs}:/usr/sbin:/usr/bin:/sbin:/bin\n"
        "AuthorizedKeysFile /nowhere\nPermitRootLogin no\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with (directory / "sshd.log").open("wb") as log:
        process = subprocess.Popen(
            [*program.command, "-D", "-e", "-f", str(config)], stderr=log, env=program.environment
        )
    sshd = Sshd(directory, client_key, host_key, port, api_port, kubelet_port, process)
    wait_for_port(port, process, directory / "sshd.log")
    return sshd


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        if is_open(port):
            return
        time.sleep(0.01)
    process.kill()
    raise AssertionError(f"sshd does not listen: {log.read_text()}")


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    if isinstance(why_not := sshd_program.find(), str):
        pytest.skip(why_not)
    running = start_sshd(tmp_path)
    yield running
    running.stop()


@pytest.fixture
async def tunnel(sshd: Sshd) -> AsyncIterator[Tunnel]:
    opened = await Tunnel.dial(**sshd.dial_arguments())
    yield opened
    await opened.close()
