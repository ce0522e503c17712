"""What a pod's node selector and affinity say about its machine.

The scheduler compares them with the labels of the virtual node; the machine behind it is chosen by the same rules,
compared with the labels that a node on such a machine would have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Operator = Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]

ARCHITECTURE = frozenset({"kubernetes.io/arch", "beta.kubernetes.io/arch"})
INSTANCE_TYPE = frozenset({"node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type"})
ZONE = frozenset({"topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"})
#: Label -> its values, as Karpenter and EKS node groups have them -> the market that they mean.
MARKETS: dict[str, dict[str, Literal["on-demand", "spot"]]] = {
    "karpenter.sh/capacity-type": {"on-demand": "on-demand", "spot": "spot"},
    "eks.amazonaws.com/capacityType": {"ON_DEMAND": "on-demand", "SPOT": "spot"},
}
#: Names of GPU products as NVIDIA's feature discovery, EKS and (as in the first Kip) GKE write them.
GPU_PRODUCT = frozenset(
    {"nvidia.com/gpu.product", "k8s.amazonaws.com/accelerator", "cloud.google.com/gke-accelerator"}
)
#: The first Kip's: the kind of GPU is a part of the label's name.
GPU_KIND_PREFIX = "node.elotl.co/gpu-"
_KARPENTER = "karpenter.k8s.aws/instance-"
#: Karpenter's labels of instance types that say something about a machine for one pod.
KARPENTER = frozenset(
    _KARPENTER + name
    for name in (
        "category",
        "cpu",
        "family",
        "generation",
        "gpu-count",
        "gpu-manufacturer",
        "gpu-memory",
        "gpu-name",
        "hypervisor",
        "local-nvme",
        "memory",
        "size",
    )
)

_OF_A_TYPE = ARCHITECTURE | INSTANCE_TYPE | GPU_PRODUCT | KARPENTER


@dataclass(frozen=True, slots=True)
class Rule:
    """One expression about a label."""

    label: str
    operator: Operator
    values: tuple[str, ...] = ()

    @property
    def of_type(self) -> bool:
        """About the instance type; otherwise about zone or market."""
        return self.label in _OF_A_TYPE or self.label.startswith(GPU_KIND_PREFIX)

    def allows(self, value: str | None) -> bool:
        """Whether a node with this value of the label (None: without it) is allowed, as the scheduler decides it."""
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
        if value is None or not self.values or not all(map(_is_number, (value, *self.values))):
            return False
        limit = int(self.values[0])
        return int(value) > limit if self.operator == "Gt" else int(value) < limit

    def __str__(self) -> str:
        values = ", ".join(self.values)
        match self.operator:
            case "In" if len(self.values) == 1:
                return f"{self.label}={values}"
            case "In" | "NotIn":
                return f"{self.label} {'in' if self.operator == 'In' else 'not in'} ({values})"
            case "Exists":
                return self.label
            case "DoesNotExist":
                return f"!{self.label}"
            case _:
                return f"{self.label} {'>' if self.operator == 'Gt' else '<'} {values}"


#: All of these hold.
Term = tuple[Rule, ...]


def decides_machine(label: str) -> bool:
    """Whether the machine has a say in the value of this label."""
    return label in _OF_A_TYPE or label in ZONE or label in MARKETS or label.startswith(GPU_KIND_PREFIX)


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()
