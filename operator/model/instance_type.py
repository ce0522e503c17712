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
    gpu_fraction: bool = False
    """Has only a part of a card, which needs NVIDIA's vGPU driver ("G6f", EC2 User Guide); EKS images have the usual one."""
    accelerator: str = ""
    """What else is built in and paid for: `Inferentia`, `Virtex UltraScale+ (VU47P)`; empty for most."""
    linux: bool = True
    """False for Macs."""
    burstable: bool = False
    """Has CPU credits (T family)."""
    baseline_per_mille: float | None = None
    """What a burstable type gives for ever of each vCPU, in thousandths; None when AWS's number is not known here."""
    bare_metal: bool = False
    current_generation: bool = True
    """False for types that AWS calls previous generation."""
    hypervisor: str = "nitro"
    """`nitro`, `xen`, or empty for bare metal."""
    spot: bool = True
    """Offered on the spot market at all."""
    dedicated_hosts: bool = False
    """Can have a host of its own."""
    local_disk_gb: int = 0
    """Instance store in all, in AWS's gigabytes."""
    local_disks: int = 0
    local_disk_kind: str = ""
    """`nvme`, `ssd` (with an older interface) or `hdd`; empty without instance store."""
    max_ebs_volumes: int = 0
    """Volumes that can be attached, the root volume included; on most Nitro types network interfaces and local disks
    count against it too."""
    ebs_nvme: bool = True
    """EBS volumes show as NVMe devices."""
    ebs_baseline_mbps: int | None = None
    """Megabits a second that EBS has for ever; None when AWS promises none."""
    ebs_baseline_iops: int | None = None
    max_enis: int
    max_ipv4_per_eni: int
    """A cell needs two: its own address and the pod's."""
    usd_per_hour: float | None = None
    """On-demand, Linux, shared tenancy; None when unknown, never a guess."""
    zone_ids: frozenset[str] | None = None
    """Ids (`use1-az4`) of the zones that have it; None when not known. A zone's name means another one in each account."""

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
