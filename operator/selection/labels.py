"""The labels that a node on a machine of some instance type would have, and rules about them.

Values are those that the cloud controller (architecture, instance type), Karpenter's EC2 provider
(`karpenter.k8s.aws/instance-*`) and the usual GPU labels have: what people bring along in their manifests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from kip.model.instance_type import InstanceType
from kip.model.placement import (
    ARCHITECTURE,
    GPU_KIND_PREFIX,
    GPU_PRODUCT,
    INSTANCE_TYPE,
    MARKETS,
    ZONE,
    Rule,
    Term,
)
from kip.model.requirements import Market

_FAMILY = re.compile(r"([a-z]+)(\d+)?")
_KARPENTER = "karpenter.k8s.aws/instance-"
# Words in the names of GPU products that say nothing about the product.
_NOISE = frozenset({"nvidia", "tesla", "geforce"})


def allows_type(term: Term, kind: InstanceType) -> bool:
    """Whether this type agrees with what the term says about types."""
    return all(_allows(rule, kind) for rule in term if rule.of_type)


def allows_place(term: Term, zone: str, market: Market) -> bool:
    """Whether zone and market agree with what the term says about them."""
    return allows_zone(term, zone) and all(
        rule.allows(value)
        for rule in term
        if rule.label in MARKETS
        for value, meant in MARKETS[rule.label].items()
        if meant == market
    )


def allows_zone(term: Term, zone: str) -> bool:
    """Whether the zone agrees with what the term says about zones."""
    return all(rule.allows(zone) for rule in term if rule.label in ZONE)


def names_types(terms: Iterable[Term]) -> bool:
    """Whether every alternative names instance types: then even special ones are meant."""
    found = [any(rule.label in INSTANCE_TYPE and rule.operator == "In" for rule in term) for term in terms]
    return bool(found) and all(found)


def names_gpus(terms: Iterable[Term]) -> bool:
    """Whether every alternative names GPUs."""
    found = [any(_is_about_gpus(rule) for rule in term) for term in terms]
    return bool(found) and all(found)


def is_gpu(kind: InstanceType, product: str) -> bool:
    """Whether a product name such as `a10g`, `nvidia-tesla-t4` or `NVIDIA-A100-SXM4-40GB` means this type's GPU."""
    return bool(kind.gpus) and _is_product(kind.gpu_name, kind.gpu_memory_mib, product)


@lru_cache(maxsize=4096)
def _is_product(gpu_name: str, gpu_memory_mib: int, product: str) -> bool:
    named, wanted = _words(gpu_name), _words(product)
    sizes = {int(word[:-2]) for word in wanted if re.fullmatch(r"\d+gb", word)}
    # AWS's `RTX PRO Server 6000` is NVIDIA's `RTX-PRO-6000-Blackwell-Server-Edition`: the same words and more.
    return named <= wanted and all(size == round(gpu_memory_mib / 1024) for size in sizes)


def _words(name: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9]+", name.lower())) - _NOISE


def _allows(rule: Rule, kind: InstanceType) -> bool:
    if rule.label in GPU_PRODUCT:
        return _allows_product(rule, kind)
    if rule.label.startswith(GPU_KIND_PREFIX):
        has_it = is_gpu(kind, rule.label.removeprefix(GPU_KIND_PREFIX))
        return has_it if rule.operator in ("In", "Exists") else not has_it
    return rule.allows(_VALUES[rule.label](kind))


def _allows_product(rule: Rule, kind: InstanceType) -> bool:
    match rule.operator:
        case "In":
            return any(is_gpu(kind, product) for product in rule.values)
        case "NotIn":
            return not any(is_gpu(kind, product) for product in rule.values)
        case "Exists":
            return kind.gpus > 0
        case "DoesNotExist":
            return kind.gpus == 0
        case _:
            return False


def _is_about_gpus(rule: Rule) -> bool:
    gpu_labels = GPU_PRODUCT | {_KARPENTER + name for name in ("gpu-name", "gpu-count", "gpu-memory")}
    about = rule.label in gpu_labels or rule.label.startswith(GPU_KIND_PREFIX)
    return about and rule.operator in ("In", "Exists", "Gt")


def _category(kind: InstanceType) -> str:
    found = _FAMILY.match(kind.family)
    return found[1] if found else kind.family


def _generation(kind: InstanceType) -> str | None:
    found = _FAMILY.match(kind.family)
    return found[2] if found else None


_OF_TYPES: dict[str, Callable[[InstanceType], str | None]] = {
    "category": _category,
    "cpu": lambda kind: str(kind.vcpus),
    "family": lambda kind: kind.family,
    "generation": _generation,
    "gpu-count": lambda kind: str(kind.gpus) if kind.gpus else None,
    "gpu-manufacturer": lambda kind: kind.gpu_manufacturer.lower() or None,
    "gpu-memory": lambda kind: str(kind.gpu_memory_mib) if kind.gpus else None,
    "gpu-name": lambda kind: kind.gpu_name.lower().replace(" ", "-") or None,
    "hypervisor": lambda kind: kind.hypervisor or None,
    "local-nvme": lambda kind: str(kind.local_disk_gb) if kind.local_disk_kind == "nvme" else None,
    "memory": lambda kind: str(kind.memory_mib),
    "size": lambda kind: kind.size,
}
_VALUES: dict[str, Callable[[InstanceType], str | None]] = {
    **{label: lambda kind: kind.architecture for label in ARCHITECTURE},
    **{label: lambda kind: kind.name for label in INSTANCE_TYPE},
    **{_KARPENTER + name: value for name, value in _OF_TYPES.items()},
}
