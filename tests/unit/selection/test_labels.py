"""Rules about labels, compared with what a node on such a machine would have."""

from __future__ import annotations

import pytest

from kip.cloud.catalogue import everything
from kip.model.placement import Operator, Rule
from kip.selection.labels import allows_place, allows_type, allows_zone, is_gpu, names_gpus, names_types

KINDS = {kind.name: kind for kind in everything()}
KARPENTER = "karpenter.k8s.aws/instance-"


@pytest.mark.parametrize(
    ("label", "operator", "values", "allowed", "refused"),
    [
        ("kubernetes.io/arch", "In", ("arm64",), "m7g.large", "m7i.large"),
        ("node.kubernetes.io/instance-type", "In", ("m7i.large",), "m7i.large", "m7i.xlarge"),
        ("beta.kubernetes.io/instance-type", "NotIn", ("m7i.large",), "m7i.xlarge", "m7i.large"),
        (f"{KARPENTER}category", "In", ("c", "m"), "c7i.large", "r7i.large"),
        (f"{KARPENTER}category", "In", ("g",), "g6f.large", "gr6.4xlarge"),
        (f"{KARPENTER}family", "In", ("c7i",), "c7i.large", "c7i-flex.large"),
        (f"{KARPENTER}generation", "Gt", ("6",), "m7i.large", "m6i.large"),
        (f"{KARPENTER}generation", "Lt", ("7",), "m6i.large", "m7i.large"),
        (f"{KARPENTER}size", "NotIn", ("nano", "micro"), "t3.small", "t3.nano"),
        (f"{KARPENTER}cpu", "In", ("4",), "m7i.xlarge", "m7i.large"),
        (f"{KARPENTER}memory", "Gt", ("8192",), "m7i.xlarge", "m7i.large"),
        (f"{KARPENTER}hypervisor", "In", ("nitro",), "m7i.large", "m4.large"),
        (f"{KARPENTER}local-nvme", "Gt", ("400",), "i4i.large", "m7i.large"),
        (f"{KARPENTER}gpu-name", "In", ("a10g",), "g5.xlarge", "g4dn.xlarge"),
        (f"{KARPENTER}gpu-count", "Gt", ("1",), "g5.12xlarge", "g5.xlarge"),
        (f"{KARPENTER}gpu-manufacturer", "In", ("nvidia",), "g5.xlarge", "m7i.large"),
        (f"{KARPENTER}gpu-memory", "Gt", ("20000",), "g5.xlarge", "g4dn.xlarge"),
        (f"{KARPENTER}gpu-count", "Exists", (), "g5.xlarge", "m7i.large"),
        ("nvidia.com/gpu.product", "In", ("NVIDIA-A10G", "Tesla-T4"), "g4dn.xlarge", "g6.xlarge"),
        ("nvidia.com/gpu.product", "NotIn", ("NVIDIA-A10G",), "g4dn.xlarge", "g5.xlarge"),
        ("nvidia.com/gpu.product", "Exists", (), "g5.xlarge", "m7i.large"),
        ("k8s.amazonaws.com/accelerator", "In", ("nvidia-tesla-v100",), "p3dn.24xlarge", "p4d.24xlarge"),
        ("cloud.google.com/gke-accelerator", "In", ("nvidia-tesla-t4",), "g4dn.xlarge", "g5.xlarge"),
        ("node.elotl.co/gpu-nvidia-tesla-t4", "Exists", (), "g4dn.xlarge", "g5.xlarge"),
        ("node.elotl.co/gpu-t4", "DoesNotExist", (), "g5.xlarge", "g4dn.xlarge"),
    ],
)
def test_rules(label: str, operator: Operator, values: tuple[str, ...], allowed: str, refused: str) -> None:
    rule = Rule(label, operator, values)
    assert rule.of_type
    assert allows_type((rule,), KINDS[allowed])
    assert not allows_type((rule,), KINDS[refused])


@pytest.mark.parametrize(
    ("product", "name", "is_it"),
    [
        ("NVIDIA-A100-SXM4-40GB", "p4d.24xlarge", True),
        ("NVIDIA-A100-SXM4-80GB", "p4d.24xlarge", False),
        ("NVIDIA-A100-SXM4-80GB", "p4de.24xlarge", True),
        ("NVIDIA-H100-80GB-HBM3", "p5.48xlarge", True),
        ("NVIDIA-L40S", "g6e.xlarge", True),
        ("NVIDIA-L4", "g6e.xlarge", False),
        ("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", "g7e.2xlarge", True),
        ("a10g", "g5.xlarge", True),
        ("a10g", "m7i.large", False),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "p4d.24xlarge", False),
    ],
)
def test_products(product: str, name: str, is_it: bool) -> None:
    assert is_gpu(KINDS[name], product) is is_it


def test_every_gpu_of_the_catalogue_is_found_by_its_own_name() -> None:
    assert all(is_gpu(kind, kind.gpu_name) for kind in KINDS.values() if kind.gpus)


def test_zones_and_markets() -> None:
    term = (
        Rule("topology.kubernetes.io/zone", "In", ("a", "b")),
        Rule("failure-domain.beta.kubernetes.io/zone", "NotIn", ("b",)),
        Rule("karpenter.sh/capacity-type", "In", ("spot",)),
        Rule("eks.amazonaws.com/capacityType", "NotIn", ("ON_DEMAND",)),
    )
    assert not any(rule.of_type for rule in term)
    assert allows_zone(term, "a")
    assert not allows_zone(term, "b")
    assert allows_place(term, "a", "spot")
    assert not allows_place(term, "a", "on-demand")
    assert not allows_place(term, "b", "spot")


def test_what_is_named() -> None:
    named = (Rule("node.kubernetes.io/instance-type", "In", ("m7i.metal-24xl",)),)
    gpus = (Rule("nvidia.com/gpu.product", "In", ("a10g",)),)
    assert names_types((named,))
    assert not names_types((named, gpus))
    assert not names_types(())
    assert names_gpus((gpus,))
    assert not names_gpus((gpus, named))


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (Rule("a", "In", ("x",)), "a=x"),
        (Rule("a", "In", ("x", "y")), "a in (x, y)"),
        (Rule("a", "NotIn", ("x",)), "a not in (x)"),
        (Rule("a", "Exists"), "a"),
        (Rule("a", "DoesNotExist"), "!a"),
        (Rule("a", "Gt", ("5",)), "a > 5"),
        (Rule("a", "Lt", ("5",)), "a < 5"),
    ],
)
def test_in_words(rule: Rule, text: str) -> None:
    assert str(rule) == text


@pytest.mark.parametrize(("value", "values"), [(None, ("5",)), ("x", ("5",)), ("7", ("x",)), ("7", ("",))])
def test_what_is_no_number_is_not_compared(value: str | None, values: tuple[str, ...]) -> None:
    assert not Rule("a", "Gt", values).allows(value)
    assert not Rule("a", "Lt", values).allows(value)
