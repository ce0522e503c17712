"""A containerd content store filled while the machine image is built."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from kip.local.world import WorldError

_NAMESPACE = "k8s.io"  # where containerd's CRI plugin, and so the kubelet, looks
_PATIENCE = 20.0  # seconds until containerd answers; 0.3 on a quiet machine
_LAST_WORDS = 5.0  # seconds from SIGTERM to its end; 0.1 on a quiet machine

# Only what an import needs.
_CONFIG = """\
version = 3
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri",
  "io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.erofs"]
"""


def import_images(
    root: Path, binaries: Mapping[str, Path], images: Mapping[str, Path], *, pinned: Collection[str]
) -> None:
    """Makes `root` a /var/lib/containerd that holds the images, unpacked.

    Args:
        root: the directory to make; empty when there are no images.
        binaries: containerd and ctr by name.
        images: tar archives by image name.
        pinned: names that the kubelet's image garbage collection must leave alone.

    Raises:
        WorldError: containerd does not start, or refuses an archive.
    """
    root.mkdir(mode=0o700)
    if not images:
        return
    with _containerd(root, binaries["containerd"]) as socket:
        for name, archive in images.items():
            _import(binaries["ctr"], socket, name, archive)
            if name in pinned:
                label = "io.cri-containerd.pinned=pinned"
                _ctr(binaries["ctr"], socket, "images", "label", name, label)


def _import(ctr: Path, socket: Path, name: str, archive: Path) -> None:
    _ctr(ctr, socket, "images", "import", "--snapshotter=overlayfs", str(archive))
    present = _ctr(ctr, socket, "images", "list", "--quiet").split()
    if name not in present:
        raise WorldError(f"{archive}: holds no image named {name}; present after the import: {present}")


@contextlib.contextmanager
def _containerd(root: Path, program: Path) -> Iterator[Path]:
    # Not below `root`: a socket's path has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="kip-ctd-") as name:
        directory = Path(name)
        socket, log = directory / "c.sock", directory / "log"
        (directory / "config.toml").write_text(_CONFIG)
        options = {
            "config": directory / "config.toml",
            "root": root,
            "state": directory / "state",
            "address": socket,
        }
        command = [str(program), *(f"--{option}={value}" for option, value in options.items())]
        with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
            try:
                _wait_for(socket, process, log)
                yield socket
            finally:
                _end(process)
    shutil.rmtree(root / "tmpmounts", ignore_errors=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """It may write what it has to the disk first, but an end that does not come must not hold up the room."""
    process.terminate()
    try:
        process.wait(_LAST_WORDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _wait_for(socket: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not socket.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            seen = log.read_text(errors="replace")[-800:]
            raise WorldError(f"containerd for the machine image's store did not start: {seen}")
        time.sleep(0.02)


def _ctr(ctr: Path, socket: Path, *arguments: str) -> str:
    command = [str(ctr), "--address", str(socket), "--namespace", _NAMESPACE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WorldError(f"ctr {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
