"""What a Node on a machine would say of it."""

from __future__ import annotations

from kip.cells.machine import labels
from kip.cloud import catalogue

TYPES = {kind.name: kind for kind in catalogue.load("us-east-1")}


def test_a_machine_says_what_manifests_select_by() -> None:
    assert labels(TYPES["m7g.large"], region="us-east-1", zone="us-east-1b", market="spot") == {
        "kubernetes.io/arch": "arm64",
        "node.kubernetes.io/instance-type": "m7g.large",
        "topology.kubernetes.io/region": "us-east-1",
        "topology.kubernetes.io/zone": "us-east-1b",
        "karpenter.sh/capacity-type": "spot",
        "eks.amazonaws.com/capacityType": "SPOT",
    }


def test_a_machine_with_gpus_says_which() -> None:
    plain = labels(TYPES["m7i.large"], region="us-east-1", zone="us-east-1a", market="on-demand")
    gpus = labels(TYPES["g4dn.12xlarge"], region="us-east-1", zone="us-east-1a", market="on-demand")
    assert {key: value for key, value in gpus.items() if key not in plain} == {
        "karpenter.k8s.aws/instance-gpu-count": "4",
        "karpenter.k8s.aws/instance-gpu-manufacturer": "nvidia",
        "karpenter.k8s.aws/instance-gpu-name": "t4",
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.count": "4",
    }
