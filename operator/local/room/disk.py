"""A machine's files as they are before it boots: an empty root, the images it comes with, what is its own in /etc."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from kip.local.room import nvidia
from kip.local.room.ami import Ami
from kip.local.room.bundle import Layout
from kip.local.room.hardware import Hardware, host_cpus
from kip.local.room.instances import FAULT_NO_KUBELET, FAULT_NO_SSHD, Instance
from kip.local.world import World

# Directories of an empty root file system; the rest of `/` are links into /usr.
_DIRECTORIES = """
usr etc proc sys dev run tmp root home/ec2-user opt/cni/bin mnt srv var/lib var/log var/tmp var/cache
var/spool var/lib/cloud var/lib/containerd
"""
_MODES = {"tmp": 0o1777, "var/tmp": 0o1777, "root": 0o700, "home/ec2-user": 0o700}
_LINKS = ("bin", "sbin", "lib", "lib64")
_EC2_USER_ID = 1000


def lay_out(world: World, place: Layout, ami: Ami, instance: Instance) -> None:
    """Makes the machine's files. Raises OSError, CalledProcessError."""
    place.directory.mkdir(parents=True)
    for name in _DIRECTORIES.split():
        directory = place.root / name
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(_MODES.get(name, 0o755))
    os.chown(place.root / "home/ec2-user", _EC2_USER_ID, _EC2_USER_ID)
    for name in _LINKS:
        if (Path("/usr") / name).is_dir():
            (place.root / name).symlink_to(f"usr/{name}")
    (place.root / "var/run").symlink_to("/run")
    subprocess.run(
        ["cp", "-a", "--reflink=auto", f"{ami.containerd}/.", place.root / "var/lib/containerd"],
        check=True,
        capture_output=True,
    )
    for name in ("usr", "etc"):
        place.upper(name).mkdir()
        place.work(name).mkdir()
    if instance.has_nvidia_driver:
        runtime = place.upper("usr") / nvidia.RUNTIME
        runtime.parent.mkdir(mode=0o755)
        runtime.write_text(nvidia.RUNTIME_SCRIPT)
        runtime.chmod(0o755)
    place.console.touch()
    _write_hardware(place, Hardware(instance.vcpus, instance.memory_mib))
    _write_etc(world, place.upper("etc"), instance)


def _write_hardware(place: Layout, hardware: Hardware) -> None:
    place.fakes.mkdir()
    (place.fakes / "meminfo").write_text(hardware.meminfo())
    hardware.write_nodes(place.fakes / "node", host_cpus())
    hardware.write_huge_pages(place.fakes / "hugepages")


def _write_etc(world: World, etc: Path, instance: Instance) -> None:
    registry = world.url("registry")
    files = {
        "machine-id": instance.id.removeprefix("i-").rjust(32, "0") + "\n",
        "hostname": f"{instance.hostname}\n",
        "hosts": f"127.0.0.1 localhost\n{instance.private_ip} {instance.hostname}\n",
        # A name that nobody knows shall be refused at once, not after the resolver's usual ten seconds.
        "resolv.conf": f"nameserver {world.host_address}\noptions timeout:1 attempts:1\n",
        # Every registry's name leads to the world's registry, and nothing is pulled from outside.
        "containerd/certs.d/_default/hosts.toml": (
            f'server = "{registry}"\n[host."{registry}"]\ncapabilities = ["pull", "resolve"]\n'
        ),
    }
    for tag, unit in ((FAULT_NO_SSHD, "sshd"), (FAULT_NO_KUBELET, "kubelet")):
        if instance.has_fault(tag):
            files[f"systemd/system/{unit}.service.d/99-fault.conf"] = (
                "[Service]\nType=exec\nExecStartPre=\nExecStart=\nExecStart=/bin/sleep infinity\n"
            )
    for name, text in files.items():
        path = etc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
