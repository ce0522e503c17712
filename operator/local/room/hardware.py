"""The hardware that a machine believes it has: its instance type's memory and processors.

A machine is a container: without this it would see the host's `/proc/meminfo` and `/sys/devices/system/node`,
and its kubelet would report, and admit pods by, the host's capacity.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_KIB_PER_MIB = 1024
# What firmware and kernel keep of an EC2 instance's memory: an m5.large shows 7.6 of 8 GiB.
_USABLE_SHARE = 0.965
_CPU_PERIOD_US = 100_000
_HUGE_PAGES_KIB = (2048, 1_048_576)
_NEAR, _FAR = 10, 20  # distances between NUMA nodes as firmware tells them


def host_cpus() -> list[int]:
    """Numbers of the processors that this process may use."""
    return sorted(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Hardware:
    """An instance type's size."""

    vcpus: int
    memory_mib: int
    gpus: int = 0
    """Those that its image has a driver for."""

    @property
    def cpu_period_us(self) -> int:
        """Length of the scheduler's accounting period in microseconds."""
        return _CPU_PERIOD_US

    def cpu_quota_us(self, available: int) -> int:
        """Processor time per period, in microseconds; never more than the `available` processors give."""
        return min(self.vcpus, available) * _CPU_PERIOD_US

    @property
    def memory_bytes(self) -> int:
        """The memory cgroup's limit."""
        return self.memory_mib * _KIB_PER_MIB * 1024

    @property
    def usable_kib(self) -> int:
        """The memory that the machine's kernel would show."""
        return int(self.memory_mib * _KIB_PER_MIB * _USABLE_SHARE)

    def meminfo(self) -> str:
        """The text of `/proc/meminfo`, all of the usable memory free."""
        total = self.usable_kib
        values = {"MemTotal": total, "MemFree": total, "MemAvailable": total, "Buffers": 0, "Cached": 0}
        values |= {"SwapCached": 0, "SwapTotal": 0, "SwapFree": 0, "Slab": 0, "SReclaimable": 0}
        lines = [f"{name + ':':<16}{value:>8} kB" for name, value in values.items()]
        return "\n".join([*lines, "HugePages_Total:       0", "Hugepagesize:       2048 kB"]) + "\n"

    def nodes(self, cpus: Sequence[int]) -> list[list[int]]:
        """The processors as NUMA nodes, which is where a kubelet (its cadvisor) counts them.

        Each node has processors of the host, so that there can be more than the host has: the count is the
        sum over nodes, while the numbers, which the kubelet writes into cpusets, remain ones that exist.
        """
        numbers = list(itertools.islice(itertools.cycle(cpus), self.vcpus))
        return [numbers[begin : begin + len(cpus)] for begin in range(0, self.vcpus, len(cpus))]

    def write_huge_pages(self, directory: Path) -> None:
        """Writes what belongs at `/sys/kernel/mm/hugepages`.

        Files that keep what is written to them: the kernel's own would set pages of this host aside, and every
        machine's kubelet would count them.
        """
        for size_kib in _HUGE_PAGES_KIB:
            pages = directory / f"hugepages-{size_kib}kB"
            pages.mkdir(parents=True)
            for name in ("nr_hugepages", "free_hugepages", "nr_overcommit_hugepages", "resv_hugepages"):
                (pages / name).write_text("0\n")

    def write_nodes(self, directory: Path, cpus: Sequence[int]) -> None:
        """Writes what belongs at `/sys/devices/system/node`."""
        nodes = self.nodes(cpus)
        directory.mkdir(parents=True)
        for number, members in enumerate(nodes):
            node = directory / f"node{number}"
            for position, cpu in enumerate(members):
                topology = node / f"cpu{cpu}" / "topology"
                topology.mkdir(parents=True)
                (topology / "core_id").write_text(f"{position // 2}\n")
                (topology / "physical_package_id").write_text(f"{number}\n")
            memory = self.usable_kib // len(nodes)
            (node / "meminfo").write_text(
                "".join(f"Node {number} {name + ':':<15}{memory:>9} kB\n" for name in ("MemTotal", "MemFree"))
            )
            distances = [_NEAR if other == number else _FAR for other in range(len(nodes))]
            (node / "distance").write_text(" ".join(map(str, distances)) + "\n")
            (node / "hugepages").mkdir()
        online = f"0-{len(nodes) - 1}\n" if len(nodes) > 1 else "0\n"
        for name in ("online", "possible", "has_cpu", "has_memory", "has_normal_memory"):
            (directory / name).write_text(online)
