"""What of a machine a pod cannot have: taken by the hypervisor, the kernel, the kubelet and containerd."""

from __future__ import annotations

from dataclasses import dataclass

from kip.model.quantity import GIB, MIB

#: Pods that a cell's kubelet accounts for: the pod itself, and room for static ones (a device plugin).
CELL_PODS = 8

# nodeadm, the EKS images' own set-up (internal/kubelet/config.go).
_KUBE_MEMORY_MIB = 255
_KUBE_MEMORY_MIB_PER_POD = 11
_KUBE_DISK_BYTES = 1 * GIB
_EVICTION_MEMORY_MIB = 100

# Karpenter's VM_MEMORY_OVERHEAD_PERCENT, in thousandths: advertised memory that the guest never sees. Measured
# values are mostly smaller, so that what is chosen by it is never too small.
_VM_OVERHEAD_PER_MILLE = 75
# Contiguous memory that arm64 kernels of Amazon Linux set aside first (pkg/providers/instancetype of karpenter-aws).
_ARM64_CMA_MIB = 64
# The least that a kubelet can see of what EC2 advertises, estimated generously: more than the overhead above, and room for
# what the kernel sets aside on the smallest machines.
_LEAST_SHARE = 0.9
_LEAST_FIXED_MIB = 128


@dataclass(frozen=True, slots=True)
class Reserve:
    """Amounts to subtract from a machine as EC2 advertises it."""

    cpu_millis: int
    """For kubelet and containerd."""
    vm_memory_bytes: int
    """Kept by the hypervisor and the kernel."""
    kube_memory_bytes: int
    """For kubelet, containerd and the rest of the system."""
    eviction_memory_bytes: int
    """Below so much free memory the kubelet evicts the pod."""

    @property
    def memory_bytes(self) -> int:
        """All of the memory that a pod cannot have."""
        return self.vm_memory_bytes + self.kube_memory_bytes + self.eviction_memory_bytes


def reserve(
    *, vcpus: int, memory_mib: int, architecture: str, seen_memory_bytes: int | None = None
) -> Reserve:
    """What a machine of this shape keeps from its pod. `architecture` as Kubernetes names it; `seen_memory_bytes` is
    what a kubelet on such a machine reported as its capacity, in place of the estimate."""
    if seen_memory_bytes is not None:
        vm_memory = memory_mib * MIB - seen_memory_bytes
    else:
        vm_memory = _usual_vm_memory_bytes(memory_mib, architecture)
    return Reserve(
        cpu_millis=kube_cpu_millis(vcpus),
        vm_memory_bytes=vm_memory,
        kube_memory_bytes=kube_memory_bytes(),
        eviction_memory_bytes=_EVICTION_MEMORY_MIB * MIB,
    )


def is_memory_of(advertised_bytes: int, seen_bytes: int) -> bool:
    """Whether a kubelet on a machine that EC2 advertises with so much memory can have seen that much."""
    return advertised_bytes * _LEAST_SHARE - _LEAST_FIXED_MIB * MIB <= seen_bytes <= advertised_bytes


def kube_cpu_millis(vcpus: int) -> int:
    """CPU for kubelet and containerd: 6 % of the first core, 1 % of the second, 0.5 % of the next two, 0.25 %
    of the others; rounded up."""
    quarter_percents = (
        24 * min(vcpus, 1) + 4 * _between(vcpus, 1, 2) + 2 * _between(vcpus, 2, 4) + max(vcpus - 4, 0)
    )
    return -(-quarter_percents * 10 // 4)


def kube_memory_bytes(pods: int = CELL_PODS) -> int:
    """Memory for kubelet, containerd and the rest of the system, by the number of pods they look after."""
    return (_KUBE_MEMORY_MIB + _KUBE_MEMORY_MIB_PER_POD * pods) * MIB


def volume_bytes(ephemeral_bytes: int) -> int:
    """The disk on which a pod can use so much: 1 GiB is the kubelet's, and at 90 % full it evicts."""
    return -(-(ephemeral_bytes + _KUBE_DISK_BYTES) * 10 // 9)


def _usual_vm_memory_bytes(memory_mib: int, architecture: str) -> int:
    cma = _ARM64_CMA_MIB if architecture == "arm64" else 0
    return cma * MIB + -(-(memory_mib - cma) * MIB * _VM_OVERHEAD_PER_MILLE // 1000)


def _between(value: int, low: int, high: int) -> int:
    return max(min(value, high) - low, 0)
