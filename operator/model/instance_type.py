"""A kind of machine that the cloud rents out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceType:
    """An EC2 instance type as one region offers it."""

    name: str
    """Like `m7g.xlarge`."""
    vcpus: int
    memory_mib: int
    """As EC2 advertises it: what the machine's kernel and the kubelet leave to pods is less."""
    architecture: str
    """As Kubernetes names it (label `kubernetes.io/arch`): `amd64` or `arm64`."""
    gpus: int = 0
    """GPUs that the device plugin shows; a fraction of a card counts as one."""
    gpu_name: str = ""
    """Like `A10G`; empty without GPUs."""
    gpu_manufacturer: str = ""
    gpu_memory_mib: int = 0
    """Of each GPU."""
    burstable: bool = False
    """Has CPU credits (T family)."""
    bare_metal: bool = False
    current_generation: bool = True
    """False for types that AWS calls previous generation."""
    hypervisor: str = "nitro"
    """`nitro`, `xen`, or empty for bare metal."""
    spot: bool = True
    """Offered on the spot market at all."""
    local_disk_gb: int = 0
    """Instance store in all, in AWS's gigabytes."""
    max_enis: int
    max_ipv4_per_eni: int
    """A cell needs two: its own address and the pod's."""
    usd_per_hour: float | None = None
    """On-demand, Linux, shared tenancy; None when unknown, never a guess."""

    @property
    def family(self) -> str:
        """`m7g` of `m7g.xlarge`."""
        return self.name.partition(".")[0]

    @property
    def size(self) -> str:
        """`xlarge` of `m7g.xlarge`."""
        return self.name.partition(".")[2]

    @property
    def ec2_architecture(self) -> str:
        """The architecture as EC2 and its images name it: `x86_64` or `arm64`."""
        return "x86_64" if self.architecture == "amd64" else self.architecture
