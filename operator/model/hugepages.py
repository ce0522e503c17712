"""Huge pages: memory that a machine's kernel sets aside in large pieces before its kubelet starts."""

from __future__ import annotations

from typing import NamedTuple

from kip.model.quantity import GIB, MIB

#: Resource → bytes of one page. Both architectures that EC2 has know these two, and no other in common.
SIZES = {"hugepages-2Mi": 2 * MIB, "hugepages-1Gi": GIB}


class HugePages(NamedTuple):
    """Pages of one size."""

    resource: str
    """As pods request it, one of SIZES."""
    number: int

    @property
    def kernel_name(self) -> str:
        """Of the pages' size, as below /sys/kernel/mm/hugepages: `2048kB`."""
        return f"{SIZES[self.resource] // 1024}kB"
