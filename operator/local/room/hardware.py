"""The hardware that a machine believes it has: its instance type's memory and processors.

A machine is a container: without this it would see the host's `/proc/meminfo` and `/sys/devices/system`, and
its kubelet would report the host's capacity (cadvisor counts the processors below /sys/devices/system/node that
/sys/devices/system/cpu/online names).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_KIB_PER_MIB = 1024
# What firmware and kernel keep of an EC2 instance's memory: an m5.large shows 7.6 of 8 GiB.
_USABLE_SHARE = 0.965
_CPU_PERIOD_US = 100_000


@dataclass(frozen=True)
class Hardware:
    """An instance type's size."""

    vcpus: int
    memory_mib: int

    @property
    def cpu_period_us(self) -> int:
        """Length of the scheduler's accounting period in microseconds."""
        return _CPU_PERIOD_US

    def cpu_quota_us(self, host_cpus: int | None = None) -> int:
        """Processor time per period, in microseconds; never more than the host has."""
        return min(self.vcpus, host_cpus or os.cpu_count() or 1) * _CPU_PERIOD_US

    @property
    def memory_bytes(self) -> int:
        """The memory cgroup's limit."""
        return self.memory_mib * _KIB_PER_MIB * 1024

    def meminfo(self) -> str:
        """The text of `/proc/meminfo`, all of the usable memory free."""
        total = int(self.memory_mib * _KIB_PER_MIB * _USABLE_SHARE)
        values = {"MemTotal": total, "MemFree": total, "MemAvailable": total, "Buffers": 0, "Cached": 0}
        values |= {"SwapCached": 0, "SwapTotal": 0, "SwapFree": 0, "Slab": 0, "SReclaimable": 0}
        lines = [f"{name + ':':<16}{value:>8} kB" for name, value in values.items()]
        return "\n".join([*lines, "HugePages_Total:       0", "Hugepagesize:       2048 kB"]) + "\n"

    def online(self) -> str:
        """The text of `/sys/devices/system/cpu/online`."""
        return f"0-{self.vcpus - 1}\n" if self.vcpus > 1 else "0\n"

    def write_topology(self, directory: Path) -> None:
        """Writes what belongs at `/sys/devices/system/node`: one node, a core for each two processors."""
        node = directory / "node0"
        for cpu in range(self.vcpus):
            topology = node / f"cpu{cpu}" / "topology"
            topology.mkdir(parents=True)
            (topology / "core_id").write_text(f"{cpu // 2}\n")
            (topology / "physical_package_id").write_text("0\n")
        total = int(self.memory_mib * _KIB_PER_MIB * _USABLE_SHARE)
        (node / "meminfo").write_text(f"Node 0 MemTotal: {total:>15} kB\nNode 0 MemFree: {total:>16} kB\n")
        (node / "distance").write_text("10\n")
        (node / "cpulist").write_text(self.online())
        (node / "hugepages").mkdir()
        for name in ("online", "possible", "has_cpu", "has_memory", "has_normal_memory"):
            (directory / name).write_text("0\n")
