"""The small scripts, with what they look at replaced."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
import yaml

from kip.bootstrap.files import script
from kip.bootstrap.render import cloud_config


def prepared(name: str, tmp_path: Path, **replaced: str) -> str:
    text = script(name).replace("/run/kip", str(tmp_path)).replace("/etc/kip", str(tmp_path))
    for old, new in replaced.items():
        text = text.replace(old, new)
    return text


def listen(tmp_path: Path) -> tuple[subprocess.Popen[str], int]:
    program = (
        "import socket,time\ns=socket.create_server(('127.0.0.1',0))\n"
        "print(s.getsockname()[1],flush=True)\ntime.sleep(60)"
    )
    process = subprocess.Popen(["python3", "-c", program], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stdout
    return process, int(process.stdout.readline())


def test_waiting_for_the_tunnel_ends_when_somebody_listens(tmp_path: Path) -> None:
    server, port = listen(tmp_path)
    text = prepared("wait-for-tunnel", tmp_path).replace("6443", str(port))
    try:
        subprocess.run(["bash", "-c", text], check=True, timeout=10)
    finally:
        server.kill()
        server.wait()
    waiting = subprocess.Popen(["bash", "-c", text])
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.3)
    waiting.kill()
    waiting.wait()


def test_waiting_starts_no_process_and_hardly_computes(tmp_path: Path) -> None:
    text = prepared("wait-for-tunnel", tmp_path).replace("6443", "1")
    waiting = subprocess.Popen(["bash", "-c", text])
    try:
        time.sleep(1)
        assert not Path(f"/proc/{waiting.pid}/task/{waiting.pid}/children").read_text()
        fields = Path(f"/proc/{waiting.pid}/stat").read_text().rpartition(")")[2].split()
        assert int(fields[11]) + int(fields[12]) < 20  # user and system time in hundredths of a second
    finally:
        waiting.kill()
        waiting.wait()


def test_the_boot_begins_when_its_program_is_there_whole(tmp_path: Path) -> None:
    (command,) = yaml.safe_load(cloud_config(()))["bootcmd"]
    boot, told, systemctl = tmp_path / "boot", tmp_path / "told", tmp_path / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$*" >{told}\n')
    systemctl.chmod(0o755)
    text = command[-1].replace("/opt/kip/boot", str(boot))
    waiting = subprocess.Popen(["bash", "-c", text], env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    try:
        boot.write_text("half of it")
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(0.3)
        assert not Path(f"/proc/{waiting.pid}/task/{waiting.pid}/children").read_text()
        boot.chmod(0o755)
        assert waiting.wait(10) == 0
    finally:
        waiting.kill()
        waiting.wait()
    assert told.read_text() == "start --no-block kip-boot.service\n"


class Switch:
    """The dead-man's switch at a chosen uptime, with and without a tunnel."""

    def __init__(self, tmp_path: Path, limit: int) -> None:
        self.directory = tmp_path
        (tmp_path / "options").write_text(f"DEAD_MAN_SWITCH_S={limit}\n")
        (tmp_path / "systemctl").write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/told\n')
        (tmp_path / "ss").write_text(f"#!/bin/sh\ncat {tmp_path}/listening\n")
        for name in ("systemctl", "ss"):
            (tmp_path / name).chmod(0o755)

    def at(self, uptime: float, *, tunnel: bool) -> str:
        (self.directory / "uptime").write_text(f"{uptime:.2f} 1.00\n")
        (self.directory / "listening").write_text("LISTEN 127.0.0.1:6443\n" if tunnel else "")
        text = prepared("dead-man-switch", self.directory).replace("/proc/uptime", f"{self.directory}/uptime")
        text = text.replace("/dev/console", "/dev/null").replace("    sync\n", "")
        environment = {"PATH": f"{self.directory}:/usr/bin:/bin"}
        subprocess.run(["bash", "-c", text], check=True, env=environment, stdout=subprocess.DEVNULL)
        told = self.directory / "told"
        return told.read_text() if told.exists() else ""


def test_a_cell_that_was_never_dialled_powers_off(tmp_path: Path) -> None:
    switch = Switch(tmp_path, 600)
    assert switch.at(20, tunnel=False) == ""
    assert switch.at(619, tunnel=False) == ""
    assert switch.at(620, tunnel=False) == "poweroff -ff\n"


def test_a_cell_with_a_tunnel_lives_and_counts_from_its_loss(tmp_path: Path) -> None:
    switch = Switch(tmp_path, 600)
    assert switch.at(20, tunnel=True) == ""
    assert switch.at(5000, tunnel=True) == ""
    assert switch.at(5599, tunnel=False) == ""
    assert switch.at(5600, tunnel=False) == "poweroff -ff\n"


NFS = """\
mountpoint() {{ [ "$1" = -d ] && echo 0:51 || [ -e {root}/mounted ]; }}
mount() {{ echo "$*" >>{root}/mounts; [ $(wc -l <{root}/mounts) -ge 3 ] && touch {root}/mounted; }}
timeout() {{ shift 3; "$@"; }}
sleep() {{ :; }}
nft() {{ cat >>{root}/rules; }}
"""


@pytest.mark.parametrize("again", [False, True])
def test_the_volume_is_mounted_however_often_that_fails_and_then_its_layers(
    tmp_path: Path, again: bool
) -> None:
    (tmp_path / "volume").write_text("VOLUME=fs-1.efs:/x\nVOLUME_OPTIONS=ro,hard\n")
    (tmp_path / "0:51").mkdir()
    layers = tmp_path / "layers"
    if again:
        layers.write_text(f"#!/bin/bash\ntouch {tmp_path}/layers-mounted\n")
        layers.chmod(0o700)
    text = (
        script("mount-volume").replace("/etc/kip", str(tmp_path)).replace("/run/kip/volume", f"{tmp_path}/v")
    )
    text = text.replace("/sys/class/bdi", str(tmp_path)).replace("/var/lib/kip", str(tmp_path))
    subprocess.run(["bash", "-c", NFS.format(root=tmp_path) + text], check=True, timeout=10)
    assert (tmp_path / "mounts").read_text() == f"-t nfs4 -o ro,hard fs-1.efs:/x {tmp_path}/v\n" * 3
    assert (tmp_path / "0:51/read_ahead_kb").read_text() == "512\n"
    assert (tmp_path / "layers-mounted").exists() == again
