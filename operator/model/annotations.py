"""The annotations `pod.elotl.co/*`: which there are, how the value of each is read, and what it does.

The same readers serve the annotations of pods and namespaces (kip.pods.annotations) and `cells.defaultAnnotations`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from kip.model.patterns import (
    GPU_KIND,
    INSTANCE_PROFILE,
    INSTANCE_TYPE_GLOB,
    SECURITY_GROUP,
    UNUSABLE_FAMILY,
)
from kip.model.quantity import QuantityError, whole
from kip.model.requirements import MarketWish

PREFIX = "pod.elotl.co/"
HEALTHY_TIMEOUT = f"{PREFIX}healthcheck-healthy-timeout"
LAUNCH_TYPE = f"{PREFIX}launch-type"

# As Go's strconv.ParseBool, which the first Kip used.
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_LAUNCH_TYPES: tuple[MarketWish, ...] = ("on-demand", "spot", "spot-preferred")
#: On demand too, but on hardware that no other account uses.
_DEDICATED = "dedicated"


class UnknownAnnotationError(ValueError):
    """There is no such annotation; the message says which there are."""


def read(key: str, text: str) -> dict[str, Any]:
    """The fields of `kip.pods.annotations.Wishes` that this value sets.

    Raises:
        UnknownAnnotationError: Kip has no annotation of this name.
        ValueError: what was expected instead, for people.
    """
    annotation = ANNOTATIONS.get(key)
    if annotation is None:
        raise UnknownAnnotationError(f"known are {', '.join(ANNOTATIONS)}")
    value = annotation.read(text)
    return dict(value) if annotation.field is None else {annotation.field: value}


def _instance_type(text: str) -> str:
    name = text.strip()
    if len(name) < 2 or not INSTANCE_TYPE_GLOB.fullmatch(name) or ("." not in name and "*" not in name):
        raise ValueError("expected an instance type like m7i.large, or a pattern like c7* or m*.large")
    if name.startswith((UNUSABLE_FAMILY, "t1*")):
        raise ValueError("instances of the t1 family cannot run a cell")
    return name


def _launch_type(text: str) -> dict[str, Any]:
    name = text.strip().lower()
    if name == _DEDICATED:
        return {"market": "on-demand", "dedicated": True}
    if name not in _LAUNCH_TYPES:
        raise ValueError(f"expected {', '.join(_LAUNCH_TYPES)} or {_DEDICATED}")
    return {"market": name}


def _gpu_kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(kind.strip() for kind in text.split(","))
    if not all(GPU_KIND.fullmatch(kind) for kind in kinds):
        raise ValueError("expected names of GPUs with commas between them, like a10g or l4,t4")
    return kinds


def _volume_bytes(text: str) -> int:
    try:
        size = whole(text.strip())
    except QuantityError:
        size = 0
    if size <= 0:
        raise ValueError("expected a size like 20Gi")
    return size


def _flag(text: str) -> bool:
    if text not in _TRUE | _FALSE:
        raise ValueError("expected true or false")
    return text in _TRUE


def _security_groups(text: str) -> tuple[str, ...]:
    groups = tuple(group.strip() for group in text.split(","))
    if not all(SECURITY_GROUP.fullmatch(group) for group in groups):
        raise ValueError(
            "expected ids of security groups with commas between them, like sg-0123abcd,sg-4567cdef"
        )
    return groups


def _instance_profile(text: str) -> str:
    if not INSTANCE_PROFILE.fullmatch(text.strip()):
        raise ValueError("expected the name or the ARN of an instance profile")
    return text.strip()


def _cloud_routes(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(_cidr, text.split())))


def _cidr(text: str) -> str:
    expected = "expected IPv4 ranges with spaces between them, like 172.20.0.0/16 192.168.7.0/24"
    try:
        network = IPv4Network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is none; {expected}") from None
    if "/" not in text:
        raise ValueError(f"{text} has no prefix length, for one address that is {text}/32; {expected}")
    if text.partition("/")[0] != str(network.network_address):
        raise ValueError(f"{text} has bits set beyond its prefix length, the range is {network}; {expected}")
    if network.is_loopback or network.is_link_local or network.is_multicast:
        raise ValueError(
            f"{text} is not routed by any VPC: loopback, link-local and multicast ranges are not"
        )
    return str(network)


def _healthy_timeout_s(text: str) -> float | None:
    """None is never. Whole seconds, the rest cut off, as the first Kip had it: 0.5 was never too."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise ValueError("expected a number of seconds, 0 for never")
    return float(int(seconds)) if seconds >= 1 else None


def _without_effect(text: str) -> dict[str, Any]:
    """A flag of the first Kip that means nothing here; a wrong value is a mistake all the same."""
    _flag(text)
    return {}


@dataclass(frozen=True)
class Annotation:
    """One of them. docs/annotations.md is made from it."""

    field: str | None
    """Of `Wishes`; None where the value sets several, which the reader names."""
    read: Callable[[str], Any]
    meaning: Mapping[str, str]
    """Examples of values (between them " or "), and what they do."""


ANNOTATIONS: Mapping[str, Annotation] = {
    f"{PREFIX}instance-type": Annotation(
        "instance_type",
        _instance_type,
        {
            "m7i.large": "exactly this type. A request that no such machine's kubelet would admit is refused; one that only "
            "may not fit is served, and the choice says so",
            "c7* or m*.large": "the cheapest of these types that fit",
        },
    ),
    LAUNCH_TYPE: Annotation(
        None,
        _launch_type,
        {
            "on-demand": "the default",
            "spot": "spot only",
            "spot-preferred": "spot while EC2 has some, then on demand; no spot offer that costs more than on demand",
            "dedicated": "on demand, on [hardware](choosing-instances.md#hardware-of-ones-own) that runs no other account's "
            "instances",
        },
    ),
    f"{PREFIX}gpu-type": Annotation(
        "gpu_kinds",
        _gpu_kinds,
        {"a10g or l4,t4": "any of these GPUs, for a pod that requests `nvidia.com/gpu`"},
    ),
    f"{PREFIX}volume-size": Annotation("volume_bytes", _volume_bytes, {"50Gi": "at least this root volume"}),
    f"{PREFIX}private-ip-only": Annotation(
        "private_ip_only",
        _flag,
        {
            "true": "no public address, whatever the subnet's setting",
            "false": "as the subnet is set, also where `cells.privateIPOnly` is true",
        },
    ),
    f"{PREFIX}security-groups": Annotation(
        "security_groups",
        _security_groups,
        {"sg-0123abcd,sg-4567cdef": "these groups besides those of every cell"},
    ),
    f"{PREFIX}instance-profile": Annotation(
        "instance_profile",
        _instance_profile,
        {
            "web or arn:aws:iam::012345678910:instance-profile/web": "the role that the pod gets from the instance "
            "metadata; Kip's own role must be allowed to pass it"
        },
    ),
    f"{PREFIX}cloud-route": Annotation(
        "cloud_routes",
        _cloud_routes,
        {
            "172.20.0.0/16 192.168.7.0/24": "the VPC leads these IPv4 ranges to the pod ([how](limits.md#cloud-routes))"
        },
    ),
    HEALTHY_TIMEOUT: Annotation(
        "healthy_timeout_s",
        _healthy_timeout_s,
        {
            "90": "a running pod whose machine was out of Kip's reach for so many seconds fails, and the machine is ended",
            "0": "never, as without the annotation: the pod may be doing its work",
        },
    ),
    f"{PREFIX}image-overlay-rootfs": Annotation(
        None, _without_effect, {"true or false": "without effect, and an event says so"}
    ),
}
#: Accepted because the first Kip had them, and why they change nothing.
WITHOUT_EFFECT: Mapping[str, str] = {
    f"{PREFIX}image-overlay-rootfs": "cells run containerd, which always mounts the layers of an image over each other",
}
