"""The shared volume of a world, mounted on this host as on a machine: what it lacks, and what can be put in its way."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from kip.local import build
from kip.local.progress import Silent
from kip.local.volume import control
from kip.local.volume.control import Shape
from kip.local.world import World

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/fuse").exists() or not shutil.which("unshare"),
    reason="mounts, by FUSE",
)
HOST = "volume-under-test"


class Mounted:
    """A volume, mounted where no other process sees it."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world = world
        self._program = build.ensure(build.VOLUME, Silent()) / "mount.nfs4"
        self._directory = directory

    def run(self, script: str, options: str = "ro", timeout: float = 20) -> subprocess.CompletedProcess[str]:
        """Runs it with the volume mounted on ./v in a mount namespace of its own; it ends with that."""
        whole = (
            f"set -e; hostname {HOST}; mkdir -p /run/kip-room/volume; mount --bind {self.world.volume} /run/kip-room/volume;"
            f" mkdir -p v; {self._program} any.example:/ v -o {options},nfsvers=4.1; {script}"
        )
        command = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "bash", "-c", whole]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, cwd=self._directory, check=False
        )


@pytest.fixture
def volume(tmp_path: Path) -> Mounted:
    world = World("t", tmp_path, IPv4Network("10.0.0.0/24"), rooted=True, ports={})
    control.make(world)
    return Mounted(world, tmp_path)


def put(volume: Mounted, name: str, content: bytes) -> Path:
    path = control.files(volume.world) / name
    path.write_bytes(content)
    return path


def test_a_machine_reads_what_is_on_the_volume_and_may_not_change_it(volume: Mounted) -> None:
    put(volume, "a", b"of the volume")
    done = volume.run("cat v/a; touch v/b")
    assert done.stdout == "of the volume"
    assert "Read-only file system" in done.stderr


def test_it_has_neither_device_nodes_nor_extended_attributes(volume: Mounted) -> None:
    program = "import os; os.setxattr('v/a', 'user.x', b'1')"
    done = volume.run(f'echo 1 >v/a; mknod v/n c 0 0 || echo no node; python3 -c "{program}"', options="rw")
    assert "no node" in done.stdout
    assert os.strerror(errno.EOPNOTSUPP) in done.stderr
    assert put(volume, "b", b"").parent.joinpath("a").read_text() == "1\n"


def test_a_file_that_is_deleted_is_taken_from_its_readers(volume: Mounted) -> None:
    path = put(volume, "a", b"1" * 4_000_000)
    done = volume.run(f"exec 3<v/a; head -c 10 <&3; rm {path}; tail -c 10 <&3")
    assert "Stale file handle" in done.stderr


def test_reads_are_counted_and_take_the_time_that_they_are_given(volume: Mounted) -> None:
    put(volume, "a", b"1" * 4 * 2**20)
    control.shape(volume.world, Shape(mib_per_s=8))
    begin = time.monotonic()
    told = f"/run/kip-room/volume/reads/{HOST}.json"
    done = volume.run(f"md5sum v/a; until grep -q {4 * 2**20} {told}; do sleep 0.02; done")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - begin >= 0.5
    assert control.reads(volume.world, HOST).bytes == 4 * 2**20


def test_who_waits_for_an_unreachable_volume_can_be_killed_and_goes_on_when_it_is_back(
    volume: Mounted,
) -> None:
    put(volume, "a", b"1" * 2**20)
    shape = volume.world.volume / "shape.json"
    away, back = '{"unreachable": true}', "{}"
    done = volume.run(
        f"echo '{away}' >{shape}; sleep 0.05; timeout -s KILL 0.3 md5sum v/a && exit 1;"
        f" (sleep 0.3; echo '{back}' >{shape}) & md5sum v/a"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("v/a\n")


def test_a_broken_volume_says_so(volume: Mounted) -> None:
    put(volume, "a", b"1" * 2**20)
    control.shape(volume.world, Shape(broken=True))
    assert "Input/output error" in volume.run("sleep 0.05; cat v/a").stderr


def test_a_directory_that_is_not_there_cannot_be_mounted(volume: Mounted) -> None:
    done = subprocess.run(
        [build.ensure(build.VOLUME, Silent()) / "mount.nfs4", "any.example:/nowhere", "v", "-o", "ro"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 32
    assert "reason given by server" in done.stderr
