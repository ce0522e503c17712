"""One machine: laid out, wired, booted, found again, destroyed.

All functions block; the room calls them in threads. Each step may be cut off by a crash: what is there then is
removed by `destroy`, which trusts no record.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kip.local.network import (
    METADATA_ADDRESS,
    Network,
    is_namespace,
    make_namespace,
    remove_namespace,
)
from kip.local.room import traces
from kip.local.room.ami import Ami, interpreter_mount
from kip.local.room.bundle import Layout, config
from kip.local.room.hardware import Hardware, host_cpus
from kip.local.room.instances import FAULT_NO_BOOT, FAULT_NO_KUBELET, FAULT_NO_SSHD, Instance
from kip.local.world import World, WorldError, write_atomically

_GONE_WITHIN = 15.0  # seconds; usually 0.3
# The room's file in a machine's directory that says: booted to the end. Without it the machine is a crash's.
_BOOTED = "booted.json"

# Directories of an empty root file system; the rest of `/` are links into /usr.
_DIRECTORIES = """
usr etc proc sys dev run tmp root home/ec2-user opt/cni/bin mnt srv var/lib var/log var/tmp var/cache
var/spool var/lib/cloud var/lib/containerd
"""
_MODES = {"tmp": 0o1777, "var/tmp": 0o1777, "root": 0o700, "home/ec2-user": 0o700}
_LINKS = ("bin", "sbin", "lib", "lib64")
_EC2_USER_ID = 1000
_LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp


class MachineError(WorldError):
    """A machine could not be booted or destroyed; the message says at which step and what was answered."""


@dataclass(frozen=True)
class Booted:
    """A machine that runs: its init's process id on this host, and the image it was made of."""

    id: str
    pid: int
    image: str


def layout(world: World, instance_id: str, ami: Ami | None = None) -> Layout:
    """Where that instance's machine is, or would be."""
    shown = interpreter_mount()
    return Layout(
        directory=world.cells / instance_id,
        usr_below=(ami.usr, Path("/usr")) if ami else (),
        etc_below=(ami.etc,) if ami else (),
        namespace=world.namespaces / instance_id,
        cgroup=f"{world.cgroup}/{instance_id}",
        shown=(shown,) if shown else (),
    )


def boot(world: World, ami: Ami, instance: Instance) -> Booted:
    """Boots the instance's machine; returns when its init runs, a second before its sshd answers.

    Raises:
        MachineError: a step failed; `destroy` removes what it left.
    """
    if instance.has_fault(FAULT_NO_BOOT):
        raise MachineError(f"{instance.id}: boot refused, as its tag {FAULT_NO_BOOT} asks")
    place = layout(world, instance.id, ami)
    try:
        _lay_out(world, place, ami, instance)
        make_namespace(place.namespace)
        _wire(Network(world), place, instance)
        pid = _start(world, place, instance)
    except (OSError, subprocess.CalledProcessError, WorldError) as error:
        raise MachineError(f"{instance.id}: {_told(error)}{_console_tail(place)}") from error
    booted = Booted(instance.id, pid, ami.directory.name)
    write_atomically(place.directory / _BOOTED, json.dumps({"pid": pid, "image": booted.image}))
    return booted


def running(world: World, instance_id: str) -> Booted | None:
    """The instance's machine, if it was booted to the end and its init still runs."""
    try:
        noted = json.loads((world.cells / instance_id / _BOOTED).read_text())
    except (FileNotFoundError, ValueError):
        return None
    told = _runc(world, "state", instance_id, check=False)
    if told.returncode:
        return None
    state = json.loads(told.stdout)
    if state["status"] != "running":
        return None
    return Booted(instance_id, state["pid"], noted["image"])


def listens(pid: int, port: int) -> bool:
    """Whether anything in that process's network namespace accepts TCP connections on the port.

    Read from the kernel's table: connecting would leave a line about a rude client in sshd's log.
    """
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                local, state = (line.split()[column] for column in (1, 3))
                if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                    return True
    return False


def present(world: World) -> set[str]:
    """Ids of all machines of which anything is there: files, a namespace, a cgroup, a container."""
    directories = [world.cells, world.runc_root, *traces.cgroup_directories(world.cgroup)]
    found = {
        entry.name for place in directories if place.is_dir() for entry in place.iterdir() if entry.is_dir()
    }
    if world.namespaces.is_dir():
        found |= {entry.name for entry in world.namespaces.iterdir()} - {Network(world).namespace_path.name}
    return found


def destroy(world: World, instance_id: str) -> None:
    """Removes every trace of that instance's machine, in whatever state it is; fine if there is none.

    Raises:
        MachineError: something is still there after 15 seconds; the message says what.
    """
    place = layout(world, instance_id)
    deadline = time.monotonic() + _GONE_WITHIN
    while True:
        _destroy_once(world, place, instance_id)
        left = remains(world, instance_id)
        if not left:
            return
        if time.monotonic() > deadline:
            raise MachineError(
                f"{instance_id}: still there {_GONE_WITHIN:.0f} s after it was destroyed: {left}"
            )
        time.sleep(0.05)


def remains(world: World, instance_id: str) -> list[str]:
    """What is there of that machine, in words; empty when nothing is."""
    place = layout(world, instance_id)
    found = [f"process {pid}" for pid in sorted(traces.processes(place.cgroup))]
    found += [f"cgroup {path}" for path in traces.cgroup_directories(place.cgroup)]
    found += [f"mount {path}" for path in traces.mounts_below(place.directory)]
    files = (place.namespace, place.directory, world.runc_root / instance_id)
    found += [str(path) for path in files if path.exists()]
    return found


def _destroy_once(world: World, place: Layout, instance_id: str) -> None:
    if (world.runc_root / instance_id).is_dir():
        # Not found, or half a container: what is left of it the steps below remove.
        _runc(world, "delete", "--force", instance_id, check=False)
    traces.kill(place.cgroup)
    traces.remove_cgroups(place.cgroup)
    shutil.rmtree(world.runc_root / instance_id, ignore_errors=True)
    remove_namespace(place.namespace)
    _unwire(Network(world), instance_id)
    traces.unmount_below(place.directory)
    traces.detach_loops_below(place.directory)
    if place.directory.is_dir():
        # Never across a mount: what a machine had mounted is not the machine's.
        subprocess.run(["rm", "-rf", "--one-file-system", place.directory], capture_output=True, check=False)


def _lay_out(world: World, place: Layout, ami: Ami, instance: Instance) -> None:
    """Makes the machine's files: an empty root, the images it was delivered with, what its /etc says of it."""
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
    place.console.touch()
    _write_hardware(place, Hardware(instance.vcpus, instance.memory_mib))
    _write_etc(world, place.upper("etc"), instance)


def _write_hardware(place: Layout, hardware: Hardware) -> None:
    place.fakes.mkdir()
    (place.fakes / "meminfo").write_text(hardware.meminfo())
    hardware.write_nodes(place.fakes / "node", host_cpus())


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


def _port(instance_id: str) -> str:
    """The bridge's port of that machine; an interface's name has at most 15 characters."""
    return f"p{instance_id[-12:]}"


def _wire(network: Network, place: Layout, instance: Instance) -> None:
    """Plugs the machine into the VPC as EC2 does: its primary address on eth0, secondary ones on nothing."""
    port = _port(instance.id)
    room = f"link add {port} type veth peer name eth0 netns {place.namespace}\n"
    room += f"link set {port} master {network.bridge} up\n"
    _feed(network.enter("ip", "-batch", "-"), room)
    length = instance.subnet_cidr.partition("/")[2]
    inside = [
        # From the address, so that a reused address does not meet a stale neighbour entry (5 s and 3 probes).
        f"ip link set eth0 address {instance.mac}",
        "ip link set lo up",
        f"ip addr add {instance.private_ip}/{length} dev eth0",
        "ip link set eth0 up",
        f"ip route add default via {network.host_address}",
        f"ip route add {METADATA_ADDRESS}/32 dev eth0",
        # A new namespace inherits the host's: user data that forgets to switch forwarding on shall fail.
        "echo 0 >/proc/sys/net/ipv4/ip_forward",
        # Plays the VPC: answers for a secondary address once the machine routes it to its pod.
        "echo 1 >/proc/sys/net/ipv4/conf/eth0/proxy_arp",
        "echo 0 >/proc/sys/net/ipv4/neigh/eth0/proxy_delay",
    ]
    _feed(["nsenter", f"--net={place.namespace}", "--", "sh", "-e"], "\n".join(inside))


def _unwire(network: Network, instance_id: str) -> None:
    """Removes the machine's port: a namespace that a dying process still holds keeps the pair alive."""
    if is_namespace(network.namespace_path):
        subprocess.run(
            network.enter("ip", "link", "del", _port(instance_id)), capture_output=True, check=False
        )


def _start(world: World, place: Layout, instance: Instance) -> int:
    hardware = Hardware(instance.vcpus, instance.memory_mib)
    bundle = config(place, hardware, instance.hostname, _capability_mask())
    (place.directory / "config.json").write_text(json.dumps(bundle))
    pid_file = place.directory / "pid"
    with place.console.open("ab") as console:
        command = _runc_command(world, "run", "--detach", "--no-new-keyring", "--pid-file", pid_file)
        command += ["--bundle", str(place.directory), instance.id]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
    return int(pid_file.read_text())


def _runc(world: World, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_runc_command(world, *arguments), check=check, capture_output=True, text=True)


def _runc_command(world: World, *arguments: str | Path) -> list[str]:
    # runc must not outlive a killed room: it would go on booting what the next room is removing.
    return [
        str(word)
        for word in ("setpriv", "--pdeathsig", "KILL", "runc", "--root", world.runc_root, *arguments)
    ]


def _feed(command: Sequence[str], text: str) -> None:
    subprocess.run(command, input=text, check=True, capture_output=True, text=True)


def _capability_mask() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapBnd:"))


def _told(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        answer = str(error.stderr or "").strip() or f"exit code {error.returncode}"
        return f"{' '.join(map(str, error.cmd))}: {answer}"
    return str(error)


def _console_tail(place: Layout) -> str:
    with contextlib.suppress(OSError):
        if text := place.console.read_text(errors="replace").strip():
            return f"; console: {text[-600:]}"
    return ""
