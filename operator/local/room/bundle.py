"""A machine's OCI bundle (`config.json` for runc): systemd as init over the image, with the hardware it believes in.

What was learnt the hard way about each mount is said beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kip.local.room import nvidia
from kip.local.room.hardware import Hardware, host_cpus

# Global sysctls that kubelet (protectKernelDefaults) and systemd-sysctl would set for the whole host. A machine
# sees the values it wants and can change none; `net` is its own and stays writable.
_SYSCTLS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}
_LOOP_DEVICES = 256  # all machines of the host together, one for each layer that is mounted

# Numbers of linux/capability.h in order.
_CAPABILITIES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT
SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ
PERFMON BPF CHECKPOINT_RESTORE
"""


@dataclass(frozen=True)
class Layout:
    """Where the parts of one machine lie on the host.

    Attributes:
        directory: the machine's own directory, which is also its bundle.
        usr_below: directories under the machine's /usr, the uppermost first.
        etc_below: the same for /etc.
        namespace: the file on which its network namespace is mounted.
        cgroup: its cgroup, relative to each hierarchy's root.
        shown: host directories that it sees read-only at the same path.
        volume: the world's shared volume, for its mount.nfs4 (kip.local.volume).
    """

    directory: Path
    usr_below: Sequence[Path]
    etc_below: Sequence[Path]
    namespace: Path
    cgroup: str
    shown: Sequence[Path] = ()
    volume: Path | None = None

    @property
    def root(self) -> Path:
        """The root file system: a plain directory, on the disk."""
        return self.directory / "root"

    @property
    def console(self) -> Path:
        """What EC2 would show as the instance's console output."""
        return self.directory / "console.log"

    @property
    def fakes(self) -> Path:
        """Files that stand in for the kernel's own."""
        return self.directory / "hardware"

    def upper(self, name: str) -> Path:
        """The writable layer of `/usr` or `/etc`."""
        return self.directory / f"{name}-upper"

    def work(self, name: str) -> Path:
        """The overlay's work directory of `/usr` or `/etc`."""
        return self.directory / f"{name}-work"


def config(layout: Layout, hardware: Hardware, hostname: str, capability_mask: int) -> dict[str, Any]:
    """The bundle's configuration.

    Args:
        layout: where the machine's parts are.
        hardware: its instance type's size.
        hostname: its name.
        capability_mask: capabilities of this host's root, as a bit mask; a machine gets all of them.
    """
    capabilities = capability_names(capability_mask)
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/sh", "-ec", f"{_init()}\nexec /usr/lib/systemd/systemd --system --show-status=no"],
            "env": [
                "container=kip-room",
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            ],
            "cwd": "/",
            "noNewPrivileges": False,
            "capabilities": dict.fromkeys(
                ("bounding", "effective", "permitted", "inheritable"), capabilities
            ),
        },
        "root": {"path": str(layout.root), "readonly": False},
        "hostname": hostname,
        "mounts": _mounts(layout),
        "linux": {
            "namespaces": [
                *({"type": kind} for kind in ("pid", "mount", "uts", "ipc", "cgroup")),
                {"type": "network", "path": str(layout.namespace)},
            ],
            "rootfsPropagation": "shared",  # as systemd has it; kubelet's mount propagation needs it
            "cgroupsPath": f"/{layout.cgroup}",
            "resources": {
                "devices": [{"allow": True, "access": "rwm"}],
                "memory": {"limit": hardware.memory_bytes},
                "cpu": {"quota": hardware.cpu_quota_us(len(host_cpus())), "period": hardware.cpu_period_us},
            },
            "devices": _devices(hardware.gpus),
        },
    }


def capability_names(mask: int) -> list[str]:
    """Names of the capabilities in a bit mask as /proc/self/status shows it."""
    return [f"CAP_{name}" for number, name in enumerate(_CAPABILITIES.split()) if mask >> number & 1]


def _init() -> str:
    """What init does before it becomes systemd: runc refuses mounts below /proc/sys, the machine may."""
    lines = [
        "mount --bind /proc/sys /proc/sys",
        "mount --bind /proc/sys/net /proc/sys/net",
        "mount -o remount,bind,ro /proc/sys",
        "mkdir /run/sysctl",
    ]
    for name, value in _SYSCTLS.items():
        file = f"/run/sysctl/{name.replace('/', '.')}"
        lines.append(
            f"echo {value} >{file}; if [ -e /proc/sys/{name} ]; then mount --bind {file} /proc/sys/{name}; fi"
        )
    return "\n".join(lines)


def _mounts(layout: Layout) -> list[dict[str, Any]]:
    tmpfs = ["nosuid", "strictatime"]
    return [
        _overlay(layout, "usr", layout.usr_below),
        _overlay(layout, "etc", layout.etc_below),
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev"]},
        # Writable: systemd, containerd and kubelet make cgroups of their own inside the machine's.
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup",
            "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "rw"],
        },
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": [*tmpfs, "mode=755"]},
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": ["nosuid", "nodev", "mode=1777"],
        },
        {
            "destination": "/dev/mqueue",
            "type": "mqueue",
            "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"],
        },
        {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": [*tmpfs, "nodev", "mode=755"]},
        _bind(layout.fakes / "meminfo", "/proc/meminfo"),
        _bind(layout.fakes / "node", "/sys/devices/system/node"),
        _bind(layout.fakes / "hugepages", "/sys/kernel/mm/hugepages", "rw"),
        _bind(layout.console, "/dev/console", "rw"),
        _bind(layout.console, "/var/log/cloud-init-output.log", "rw"),
        *(_bind(path, str(path)) for path in layout.shown),
        *([_bind(layout.volume, "/run/kip-room/volume", "rw")] if layout.volume else ()),
    ]


def _overlay(layout: Layout, name: str, below: Sequence[Path]) -> dict[str, Any]:
    options = [
        f"lowerdir={':'.join(map(str, below))}",
        f"upperdir={layout.upper(name)}",
        f"workdir={layout.work(name)}",
    ]
    return {"destination": f"/{name}", "type": "overlay", "source": "overlay", "options": options}


def _bind(source: Path, destination: str, access: str = "ro") -> dict[str, Any]:
    return {"destination": destination, "type": "bind", "source": str(source), "options": ["rbind", access]}


def _devices(gpus: int) -> list[dict[str, Any]]:
    numbers = {
        "/dev/fuse": ("c", 10, 229),
        "/dev/net/tun": ("c", 10, 200),
        "/dev/loop-control": ("c", 10, 237),
    }
    numbers |= {f"/dev/loop{number}": ("b", 7, number) for number in range(_LOOP_DEVICES)}
    # The host's kernel log would be in every machine's journal, and every kubelet would see every machine's
    # out-of-memory kills: a null device instead, which kubelet 1.36 accepts.
    numbers["/dev/kmsg"] = ("c", 1, 3)
    numbers |= dict.fromkeys(nvidia.device_nodes(gpus), ("c", *nvidia.NULL))
    return [
        {"path": path, "type": kind, "major": major, "minor": minor, "fileMode": 0o660, "uid": 0, "gid": 0}
        for path, (kind, major, minor) in numbers.items()
    ]
