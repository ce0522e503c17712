"""The annotations `pod.elotl.co/*`: which there are, and how the value of each is read.

The same readers serve the annotations of pods and namespaces (kip.pods.annotations) and `cells.defaultAnnotations`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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
    reader = READERS.get(key)
    if reader is None:
        raise UnknownAnnotationError(f"known are {', '.join(READERS)}")
    field, parse = reader
    value = parse(text)
    return dict(value) if field is None else {field: value}


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


# The field of `Wishes` that an annotation sets, and how it is read; without a field several are, by name.
READERS: Mapping[str, tuple[str | None, Callable[[str], Any]]] = {
    f"{PREFIX}instance-type": ("instance_type", _instance_type),
    LAUNCH_TYPE: (None, _launch_type),
    f"{PREFIX}gpu-type": ("gpu_kinds", _gpu_kinds),
    f"{PREFIX}volume-size": ("volume_bytes", _volume_bytes),
    f"{PREFIX}private-ip-only": ("private_ip_only", _flag),
    f"{PREFIX}security-groups": ("security_groups", _security_groups),
    f"{PREFIX}instance-profile": ("instance_profile", _instance_profile),
    f"{PREFIX}cloud-route": ("cloud_routes", _cloud_routes),
    HEALTHY_TIMEOUT: ("healthy_timeout_s", _healthy_timeout_s),
    f"{PREFIX}image-overlay-rootfs": (None, _without_effect),
}
#: Accepted because the first Kip had them, and why they change nothing.
WITHOUT_EFFECT: Mapping[str, str] = {
    f"{PREFIX}image-overlay-rootfs": "cells run containerd, which always mounts the layers of an image over each other",
}
