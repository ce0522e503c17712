"""One machine: laid out, wired, booted, found again, destroyed.

All functions block; the room calls them in threads. Each step may be cut off by a crash: what is there then is
removed by `destroy`, which trusts no record.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from kip.local.network import Network, make_namespace, remove_namespace
from kip.local.room import traces, wiring
from kip.local.room.ami import Ami, interpreter_mount
from kip.local.room.bundle import Layout, config
from kip.local.room.disk import lay_out
from kip.local.room.hardware import Hardware
from kip.local.room.instances import FAULT_NO_BOOT, Instance
from kip.local.world import World, WorldError, write_atomically

_GONE_WITHIN = 15.0  # seconds; usually 0.3
# The room's file in a machine's directory that says: booted to the end. Without it the machine is a crash's.
_BOOTED = "booted.json"


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
        volume=world.volume,
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
        lay_out(world, place, ami, instance)
        make_namespace(place.namespace)
        wiring.plug_in(Network(world), place.namespace, instance)
        booted = Booted(instance.id, _start(world, place, instance), ami.directory.name)
        write_atomically(place.directory / _BOOTED, json.dumps({"pid": booted.pid, "image": booted.image}))
    except (OSError, subprocess.CalledProcessError, WorldError) as error:
        raise MachineError(f"{instance.id}: {_told(error)}{_console_tail(place)}") from error
    return booted


def lead(world: World, instance: Instance) -> None:
    """Makes the machine's network what the VPC's route table says. Raises MachineError."""
    try:
        wiring.lead(layout(world, instance.id).namespace, instance.routes)
    except (OSError, subprocess.CalledProcessError) as error:
        raise MachineError(f"{instance.id}: {_told(error)}") from error


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
    wiring.unplug(Network(world), instance_id)
    traces.unmount_below(place.directory)
    traces.detach_loops_below(place.directory)
    if place.directory.is_dir():
        # Never across a mount: what a machine had mounted is not the machine's.
        subprocess.run(["rm", "-rf", "--one-file-system", place.directory], capture_output=True, check=False)


def _start(world: World, place: Layout, instance: Instance) -> int:
    gpus = instance.gpus if instance.has_nvidia_driver else 0
    hardware = Hardware(instance.vcpus, instance.memory_mib, gpus)
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
