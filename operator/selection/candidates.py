"""Instance types with what they leave to a pod, worked out once for a whole catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kip.model.instance_type import InstanceType
from kip.model.quantity import MIB
from kip.model.reserve import Reserve, reserve


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """An instance type and what a pod can have of it."""

    type: InstanceType
    reserve: Reserve
    """What the machine keeps for itself."""
    cpu_millis: int
    """CPU left to the pod."""
    memory_bytes: int
    """Memory left to the pod."""

    @property
    def name(self) -> str:
        return self.type.name


def candidates(catalogue: Iterable[InstanceType]) -> tuple[Candidate, ...]:
    """Sorted by name, so that no choice depends on the catalogue's order."""
    return tuple(_candidate(kind) for kind in sorted(catalogue, key=lambda kind: kind.name))


def _candidate(kind: InstanceType) -> Candidate:
    kept = reserve(vcpus=kind.vcpus, memory_mib=kind.memory_mib, architecture=kind.architecture)
    return Candidate(
        type=kind,
        reserve=kept,
        cpu_millis=kind.vcpus * 1000 - kept.cpu_millis,
        memory_bytes=kind.memory_mib * MIB - kept.memory_bytes,
    )
