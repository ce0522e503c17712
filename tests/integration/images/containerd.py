"""A containerd on directories of its own, in namespaces of its own, with a volume mounted as on a cell."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from kip.local import build
from kip.local.progress import Silent
from kip.local.volume import control
from kip.local.world import World
from kip.tunnel.volume import command as command_of

_CONFIG = """\
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.blockfile"]
"""


class Machine:
    """As little of a cell as the scripts need; the machine's own /run and /var/lib are not touched."""

    def __init__(self, world: World, programs: Path | None = None) -> None:
        """`programs` has another containerd and ctr than the local world's."""
        self.world = world
        self._programs = programs or build.ensure(build.CONTAINERD, Silent())
        self._mount = build.ensure(build.VOLUME, Silent()) / "mount.nfs4"
        self._root = world.state
        control.make(world)
        for name in ("lib", "containerd"):
            (self._root / name).mkdir(exist_ok=True)
        self._init: subprocess.Popen[str] | None = None

    def __enter__(self) -> Machine:
        self.boot()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def boot(self) -> None:
        """What is on the disk is as the last boot has left it."""
        directories = " ".join(
            f"mkdir -p {at} && mount --bind {self._root / name} {at};"
            for name, at in (("lib", "/var/lib/kip"), ("containerd", "/var/lib/containerd"))
        )
        (self._root / "config.toml").write_text(_CONFIG)
        script = (
            f"mkdir -p /run/kip /run/kip-room/volume; {directories} mount -t tmpfs tmpfs /run;"
            " mkdir -p /run/kip/volume /run/kip-room/volume /run/lock;"
            f" mount --bind {self.world.volume} /run/kip-room/volume; hostname seeding-test;"
            f" {self._programs}/containerd --config {self._root}/config.toml >{self._root}/log 2>&1 &"
            " echo up; exec sleep infinity"
        )
        command = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self._init = subprocess.Popen(
            [*command, "--propagation=private", "bash", "-c", script],
            stdout=subprocess.PIPE,
            stderr=(self._root / "boot.log").open("w"),
            text=True,
        )
        assert self._init.stdout
        assert self._init.stdout.readline() == "up\n"
        [child] = Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children").read_text().split()
        self._inside = child
        self.eventually("ctr version")

    def kill(self) -> None:
        """As if the power had gone."""
        if self._init:
            self._init.kill()
            self._init.wait()
            self._init = None
            control.detach_loops(self.world)

    def mount(self) -> None:
        """The volume, where user data mounts it."""
        self.run(f"{self._mount} any:/ /run/kip/volume -o ro")

    def run(
        self,
        script: str,
        input: bytes = b"",  # noqa: A002
        timeout: float = 60,
        check: bool = True,
    ) -> subprocess.CompletedProcess[bytes]:
        path = f"{self._programs}:{os.environ['PATH']}:/usr/sbin:/sbin"
        command = ["nsenter", "-t", self._inside, "-m", "-u", "-p", "bash", "-c", script]
        done = subprocess.run(
            command, input=input, capture_output=True, timeout=timeout, check=False, env={"PATH": path}
        )
        if check:
            log = (self._root / "log").read_text()[-1500:]
            assert done.returncode == 0, f"{script}\n{done.stdout!r}\n{done.stderr.decode()}\n{log}"
        return done

    def script(self, name: str, *arguments: str, input: bytes = b"", path: str = "") -> bytes:  # noqa: A002
        """One of kip.tunnel's, as it is called over SSH; `path` goes before that of the system."""
        command = command_of(name, *arguments)
        return self.run(f"PATH={path}:$PATH; {command}" if path else command, input=input, check=False).stdout

    def ctr(self, *arguments: str) -> str:
        return self.run(f"ctr --namespace k8s.io {' '.join(arguments)}").stdout.decode()

    def eventually(self, script: str, seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while self.run(script, check=False).returncode:
            assert time.monotonic() < deadline, script
            time.sleep(0.05)
