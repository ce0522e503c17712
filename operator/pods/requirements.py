"""What a pod needs of its machine: from its resources, its annotations and its node selectors."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal

from kip.model.quantity import GIB
from kip.model.requirements import Part, Requirements
from kip.model.reserve import volume_bytes
from kip.pods import resources
from kip.pods.annotations import PREFIX, wishes
from kip.pods.placement import architectures
from kip.pods.resources import Amounts
from kip.pods.tree import Pod, items

GPU = "nvidia.com/gpu"
_EPHEMERAL = "ephemeral-storage"

# Disk that the pod cannot use: the system of an EKS image is about 4 GiB; the rest is room for the layers of the
# pod's image, whose size is not known when its machine is launched.
_SYSTEM_AND_IMAGE_BYTES = 10 * GIB


def requirements(pod: Pod) -> Requirements:
    """What the machine must have for this pod.

    Raises:
        InvalidAnnotationError: an annotation cannot be obeyed.
        QuantityError: a resource is no quantity; no API server lets that through.
    """
    wanted = wishes(pod)
    total = resources.requests(pod)
    parts = [_part(source, amounts) for source, amounts in _sources(pod)]
    volume = 0
    if total.get(_EPHEMERAL):
        volume = volume_bytes(_whole(total[_EPHEMERAL]) + _SYSTEM_AND_IMAGE_BYTES)
        parts.append(Part("ephemeral storage, system and image", volume_bytes=volume))
    if wanted.volume_bytes:
        volume = max(volume, wanted.volume_bytes)
        parts.append(Part(f"annotation {PREFIX}volume-size", volume_bytes=wanted.volume_bytes))
    sized = any(total.get(resource) for resource in ("cpu", "memory", GPU))
    return Requirements(
        cpu_millis=_whole(total.get("cpu", Decimal(0)) * 1000),
        memory_bytes=_whole(total.get("memory", Decimal(0))),
        gpus=_whole(total.get(GPU, Decimal(0))),
        volume_bytes=volume,
        architectures=architectures(pod),
        market=wanted.market or "on-demand",
        instance_type=wanted.instance_type,
        private_ip_only=wanted.private_ip_only,
        security_groups=wanted.security_groups,
        instance_profile=wanted.instance_profile,
        sized=sized,
        parts=tuple(part for part in parts if part != Part(part.source)),
    )


def _sources(pod: Pod) -> list[tuple[str, Amounts]]:
    """What adds up to the pod's requests: each container, what init containers need beyond, the overhead."""
    found = [
        (f"container {container.get('name', '')}", resources.of_container(container))
        for container in items(pod, "spec", "containers")
    ]
    found += [
        (f"sidecar {container.get('name', '')}", resources.of_container(container))
        for container in resources.sidecars(pod)
    ]
    found += _beyond(resources.at_once(pod), dict(resources.init_steps(pod)))
    whole = resources.of_whole_pod(pod)
    found = [(source, {k: v for k, v in amounts.items() if k not in whole}) for source, amounts in found]
    return [*found, ("pod as a whole", whole), ("overhead", resources.overhead(pod))]


def _beyond(at_once: Amounts, steps: Mapping[str, Amounts]) -> list[tuple[str, Amounts]]:
    """By how much the most demanding init container exceeds what runs later, for each resource."""
    found: dict[str, Amounts] = {}
    for resource in {resource for step in steps.values() for resource in step}:
        name = max(steps, key=lambda name: steps[name].get(resource, Decimal(0)))
        more = steps[name].get(resource, Decimal(0)) - at_once.get(resource, Decimal(0))
        if more > 0:
            found.setdefault(name, {})[resource] = more
    return [(f"init container {name}, beyond the others", found[name]) for name in steps if name in found]


def _part(source: str, amounts: Amounts) -> Part:
    return Part(
        source,
        cpu_millis=_whole(amounts.get("cpu", Decimal(0)) * 1000),
        memory_bytes=_whole(amounts.get("memory", Decimal(0))),
        gpus=_whole(amounts.get(GPU, Decimal(0))),
    )


def _whole(amount: Decimal) -> int:
    return int(amount.to_integral_value(rounding=ROUND_CEILING))
