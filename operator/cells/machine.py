"""What a Node on a machine of some type would say of it, in labels."""

from __future__ import annotations

from kip.model.instance_type import InstanceType

# As Karpenter and EKS node groups write it.
_CAPACITY_TYPES = {"on-demand": "ON_DEMAND", "spot": "SPOT"}


def labels(kind: InstanceType, *, region: str, zone: str, market: str) -> dict[str, str]:
    """The well-known labels of a machine, those that manifests select by: of Kubernetes, of Karpenter's EC2 provider, and
    of NVIDIA's feature discovery as far as they follow from the type."""
    found = {
        "kubernetes.io/arch": kind.architecture,
        "node.kubernetes.io/instance-type": kind.name,
        "topology.kubernetes.io/region": region,
        "topology.kubernetes.io/zone": zone,
        "karpenter.sh/capacity-type": market,
    }
    if market in _CAPACITY_TYPES:
        found["eks.amazonaws.com/capacityType"] = _CAPACITY_TYPES[market]
    if kind.gpus:
        found |= {
            "karpenter.k8s.aws/instance-gpu-count": str(kind.gpus),
            "karpenter.k8s.aws/instance-gpu-manufacturer": kind.gpu_manufacturer.lower(),
            "karpenter.k8s.aws/instance-gpu-name": kind.gpu_name.lower().replace(" ", "-"),
        }
    if kind.gpus and kind.gpu_manufacturer == "NVIDIA":
        found |= {"nvidia.com/gpu.present": "true", "nvidia.com/gpu.count": str(kind.gpus)}
    return found
