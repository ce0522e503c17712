"""Instance types with what they leave to a pod, worked out once for a whole catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from kip.model.burstable import LEAST_PER_MILLE, throttled
from kip.model.instance_type import InstanceType
from kip.model.market import NOTHING_KNOWN, MarketData
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
    most_memory_bytes: int
    """Memory left to the pod if the hypervisor kept none, or what is known to be left: beyond that no kubelet of such a
    machine admits a pod."""
    baseline_millis: int
    """CPU that it gives for ever: all of it, less for burstable types."""
    sustained_millis: int
    """CPU left to the pod when all CPU credits are spent: less than `cpu_millis` for types that then slow down."""

    @property
    def name(self) -> str:
        return self.type.name

    @property
    def estimated_memory_bytes(self) -> int:
        """Memory left to the pod by the estimate, whatever was seen: to compare with types that have not been seen."""
        kind = self.type
        kept = reserve(vcpus=kind.vcpus, memory_mib=kind.memory_mib, architecture=kind.architecture)
        return kind.memory_mib * MIB - kept.memory_bytes


def candidates(
    catalogue: Iterable[InstanceType], market: MarketData = NOTHING_KNOWN
) -> tuple[Candidate, ...]:
    """Sorted by name, so that no choice depends on the catalogue's order."""
    return tuple(_candidate(kind, market) for kind in sorted(catalogue, key=lambda kind: kind.name))


def _candidate(kind: InstanceType, market: MarketData) -> Candidate:
    if kind.name in market.on_demand:
        kind = replace(kind, usd_per_hour=market.on_demand[kind.name])
    kept = reserve(
        vcpus=kind.vcpus,
        memory_mib=kind.memory_mib,
        architecture=kind.architecture,
        seen_memory_bytes=market.memory_bytes.get(kind.name),
    )
    cpu_millis, baseline = kind.vcpus * 1000 - kept.cpu_millis, _baseline_millis(kind)
    memory = kind.memory_mib * MIB - kept.memory_bytes
    estimated = 0 if kind.name in market.memory_bytes else kept.vm_memory_bytes
    slows_down = kind.burstable and throttled(kind.family)
    return Candidate(
        type=kind,
        reserve=kept,
        cpu_millis=cpu_millis,
        memory_bytes=memory,
        most_memory_bytes=memory + estimated,
        baseline_millis=baseline,
        sustained_millis=min(cpu_millis, baseline) if slows_down else cpu_millis,
    )


def _baseline_millis(kind: InstanceType) -> int:
    if not kind.burstable:
        return kind.vcpus * 1000
    per_mille = LEAST_PER_MILLE if kind.baseline_per_mille is None else kind.baseline_per_mille
    return int(kind.vcpus * per_mille)
