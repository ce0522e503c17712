"""What a pod needs of its machine: from its resources, its annotations and its node selectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from typing import Any

from kip.model.hugepages import SIZES, HugePages
from kip.model.placement import MARKETS, Term
from kip.model.quantity import GIB
from kip.model.requirements import GPU, MarketWish, Part, Requirements
from kip.model.reserve import volume_bytes
from kip.pods import placement, resources
from kip.pods.annotations import LAUNCH_TYPE, PREFIX, Layer, Wishes, wishes
from kip.pods.resources import Amounts
from kip.pods.spread import Neighbour, zone_spreads
from kip.pods.tree import Pod, items

_EPHEMERAL = "ephemeral-storage"
_ON_EVERY_CELL = frozenset({"cpu", "memory", _EPHEMERAL, GPU, *SIZES})

# Disk that the pod cannot use: the system of an EKS image is about 4 GiB; the rest is room for the layers of the
# pod's image, whose size is not known when its machine is launched.
_SYSTEM_AND_IMAGE_BYTES = 10 * GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a pod besides the pod itself; by default nothing."""

    volume_zones: frozenset[str] | None = None
    """Zones in which all of its bound volumes can be attached; None when they are in no zone in particular."""
    image_architectures: frozenset[str] | None = None
    """What its images are to be run on (`kip.pods.architecture`); None when they leave it open."""
    neighbours: tuple[Neighbour, ...] = ()
    """Pods of its namespace that have a machine, for its topology spread."""
    defaults: tuple[Layer, ...] = ()
    """Annotations for those that the pod lacks, of its namespace and of the configuration."""


def requirements(pod: Pod, known: Known | None = None) -> Requirements:
    """What the machine must have for this pod.

    Raises:
        InvalidAnnotationError: an annotation cannot be obeyed.
        QuantityError: a resource is no quantity; no API server lets that through.
    """
    known = known or Known()
    terms = placement.terms(pod)
    wanted = _with_market(wishes(pod, known.defaults), terms)
    total = resources.requests(pod)
    parts = [_part(source, amounts) for source, amounts in _sources(pod)]
    volume = 0
    if total.get(_EPHEMERAL):
        volume = volume_bytes(_whole(total[_EPHEMERAL]) + _SYSTEM_AND_IMAGE_BYTES)
        parts.append(Part("ephemeral storage, system and image", volume_bytes=volume))
    if wanted.volume_bytes:
        volume = max(volume, wanted.volume_bytes)
        parts.append(Part(f"annotation {PREFIX}volume-size", volume_bytes=wanted.volume_bytes))
    return Requirements(
        cpu_millis=_whole(total.get("cpu", Decimal(0)) * 1000),
        memory_bytes=_whole(total.get("memory", Decimal(0))),
        huge_pages=_huge_pages(total),
        gpus=_whole(total.get(GPU, Decimal(0))),
        gpu_kinds=wanted.gpu_kinds,
        other_resources=_on_no_cell(total),
        volume_bytes=volume,
        **_architectures(placement.architectures(pod), known.image_architectures),
        market=wanted.market or "on-demand",
        dedicated=wanted.dedicated,
        terms=terms,
        volume_zones=known.volume_zones,
        spreads=zone_spreads(pod, known.neighbours),
        instance_type=wanted.instance_type,
        private_ip_only=wanted.private_ip_only,
        security_groups=wanted.security_groups,
        instance_profile=wanted.instance_profile,
        inherited=tuple(map(str, wanted.inherited)),
        sized=any(total.get(resource) for resource in ("cpu", "memory", GPU, *SIZES)),
        parts=tuple(part for part in parts if part != Part(part.source)),
    )


def _with_market(wanted: Wishes, terms: tuple[Term, ...]) -> Wishes:
    """What the pod itself says counts: its annotation, then the labels of Karpenter and EKS, then what it inherits."""
    others = tuple(entry for entry in wanted.inherited if entry.key != LAUNCH_TYPE)
    if wanted.market and others == wanted.inherited:
        return wanted
    by_labels = _market(terms)
    if by_labels is None or (wanted.dedicated and by_labels == "on-demand"):
        return wanted
    return replace(wanted, market=by_labels, dedicated=False, inherited=others)


def _market(terms: tuple[Term, ...]) -> MarketWish | None:
    """By the labels; None when they say nothing. With both markets allowed it is spot first, as Karpenter has it;
    only excluding something else does not ask for spot."""
    allowed = placement.markets(terms)
    if allowed is None:
        return None
    if "spot" not in allowed:
        return "on-demand"
    if "on-demand" not in allowed:
        return "spot"
    asked_for = any(rule.operator == "In" and rule.label in MARKETS for term in terms for rule in term)
    return "spot-preferred" if asked_for else None


def _architectures(by_pod: frozenset[str] | None, by_images: frozenset[str] | None) -> dict[str, Any]:
    """What the pod says; of that what its images are for, if it leaves a choice. An image may be labelled wrongly, so it
    never has the last word against what somebody has written."""
    if by_images is None:
        return {"architectures": by_pod}
    if by_pod is not None:
        return {"architectures": by_pod & by_images or by_pod}
    return {
        "architectures": by_images,
        "architectures_from": "the pod's image is for",
        "architectures_inferred": True,
    }


def _huge_pages(total: Amounts) -> tuple[HugePages, ...]:
    """They are taken out of the machine's memory before the kubelet counts what is left."""
    return tuple(
        HugePages(name, -(-_whole(amount) // SIZES[name]))
        for name, amount in sorted(total.items())
        if name in SIZES and amount
    )


def _on_no_cell(total: Amounts) -> tuple[str, ...]:
    return tuple(sorted(name for name, amount in total.items() if amount and name not in _ON_EVERY_CELL))


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
        huge_pages_bytes=sum(_whole(amount) for name, amount in amounts.items() if name in SIZES),
    )


def _whole(amount: Decimal) -> int:
    return int(amount.to_integral_value(rounding=ROUND_CEILING))
