"""Instance types as EC2 describes them (DescribeInstanceTypes) → as Kip knows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kip.model.burstable import baseline_per_mille
from kip.model.instance_type import InstanceType

#: EC2's names of architectures → Kubernetes' names, and whether Linux runs there.
_ARCHITECTURES = {
    "x86_64": ("amd64", True),
    "arm64": ("arm64", True),
    "x86_64_mac": ("amd64", False),
    "arm64_mac": ("arm64", False),
}
#: Where EC2 describes what is built in besides GPUs: key, list in it.
_ACCELERATORS = (
    ("NeuronInfo", "NeuronDevices"),
    ("InferenceAcceleratorInfo", "Accelerators"),
    ("FpgaInfo", "Fpgas"),
    ("MediaAcceleratorInfo", "Accelerators"),
)


def from_description(entry: Mapping[str, Any]) -> InstanceType:
    """One entry of the answer, without price and zones; raises KeyError for what is none."""
    name, vcpus = entry["InstanceType"], entry["VCpuInfo"]["DefaultVCpus"]
    family, _, size = name.partition(".")
    architecture, linux = _architecture(entry["ProcessorInfo"]["SupportedArchitectures"])
    network, burstable = entry["NetworkInfo"], bool(entry["BurstablePerformanceSupported"])
    return InstanceType(
        name=name,
        vcpus=vcpus,
        memory_mib=entry["MemoryInfo"]["SizeInMiB"],
        architecture=architecture,
        linux=linux,
        accelerator=_accelerator(entry),
        burstable=burstable,
        baseline_per_mille=baseline_per_mille(family, size, vcpus) if burstable else None,
        bare_metal=bool(entry["BareMetal"]),
        current_generation=bool(entry["CurrentGeneration"]),
        hypervisor=entry.get("Hypervisor", ""),
        spot="spot" in entry["SupportedUsageClasses"],
        dedicated_hosts=bool(entry["DedicatedHostsSupported"]),
        max_enis=network["MaximumNetworkInterfaces"],
        max_ipv4_per_eni=network["Ipv4AddressesPerInterface"],
        **_gpus(entry.get("GpuInfo", {}).get("Gpus", [])),
        **_local_disks(entry.get("InstanceStorageInfo", {})),
        **_ebs(entry["EbsInfo"]),
    )


def _architecture(supported: list[str]) -> tuple[str, bool]:
    return next(_ARCHITECTURES[name] for name in supported if name in _ARCHITECTURES)


def _gpus(gpus: list[Mapping[str, Any]]) -> dict[str, Any]:
    if not gpus:
        return {}
    return {
        # A type with a fraction of a card has Count 0 and one logical GPU, of which an SDK older than these types knows
        # nothing. Taken at its Count it would pass for a machine without GPUs, and for a cheap one.
        "gpus": sum(gpu.get("LogicalGpuCount") or gpu["Count"] or 1 for gpu in gpus),
        "gpu_name": gpus[0]["Name"],
        "gpu_manufacturer": gpus[0]["Manufacturer"],
        "gpu_memory_mib": gpus[0]["MemoryInfo"]["SizeInMiB"],
        "gpu_fraction": any(gpu.get("GpuPartitionSize", 1) < 1 or not gpu["Count"] for gpu in gpus),
    }


def _accelerator(entry: Mapping[str, Any]) -> str:
    found = (device for key, devices in _ACCELERATORS for device in entry.get(key, {}).get(devices, []))
    return next((str(device["Name"]) for device in found), "")


def _local_disks(storage: Mapping[str, Any]) -> dict[str, Any]:
    disks = storage.get("Disks", [])
    if not disks:
        return {}
    nvme = storage.get("NvmeSupport") in ("required", "supported") and disks[0]["Type"] == "ssd"
    return {
        "local_disk_gb": storage["TotalSizeInGB"],
        "local_disks": sum(disk["Count"] for disk in disks),
        "local_disk_kind": "nvme" if nvme else disks[0]["Type"],
    }


def _ebs(ebs: Mapping[str, Any]) -> dict[str, Any]:
    promised = ebs.get("EbsOptimizedInfo", {})
    return {
        "max_ebs_volumes": ebs.get("MaximumEbsAttachments", 0),
        "ebs_nvme": ebs["NvmeSupport"] in ("required", "supported"),
        "ebs_baseline_mbps": promised.get("BaselineBandwidthInMbps"),
        "ebs_baseline_iops": promised.get("BaselineIops"),
    }
