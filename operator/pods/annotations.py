"""The annotations `pod.elotl.co/*`, with which users say what kind of machine a pod gets."""

from __future__ import annotations

from collections.abc import Callable
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
from kip.pods.tree import Pod, entries

PREFIX = "pod.elotl.co/"

# As Go's strconv.ParseBool, which the first Kip used.
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_LAUNCH_TYPES: tuple[MarketWish, ...] = ("on-demand", "spot", "spot-preferred")
#: On demand too, but on hardware that no other account uses.
_DEDICATED = "dedicated"


class InvalidAnnotationError(ValueError):
    """One or more annotations cannot be obeyed; the message says which, their values and what is allowed."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the annotations ask for; None where there is none."""

    instance_type: str | None = None
    market: MarketWish | None = None
    dedicated: bool = False
    gpu_kinds: tuple[str, ...] = ()
    volume_bytes: int | None = None
    private_ip_only: bool | None = None
    security_groups: tuple[str, ...] = ()
    instance_profile: str | None = None
    cloud_routes: tuple[str, ...] = ()
    """IPv4 ranges, for which a route to the cell is wanted."""


def wishes(pod: Pod) -> Wishes:
    """Read a pod's annotations.

    Raises:
        InvalidAnnotationError: one line for each wrong one.
    """
    given = entries(pod, "metadata", "annotations")
    values: dict[str, Any] = {}
    problems = []
    for key, (field, parse) in _READERS.items():
        if key not in given:
            continue
        try:
            value = parse(given[key])
            values.update(value if field is None else {field: value})
        except ValueError as error:
            problems.append(f"annotation {key}: {given[key]!r} is not allowed: {error}")
    if problems:
        raise InvalidAnnotationError("\n".join(problems))
    return Wishes(**values)


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


# The field of `Wishes` that an annotation sets, and how it is read; without a field several are, by name.
_READERS: dict[str, tuple[str | None, Callable[[str], Any]]] = {
    f"{PREFIX}instance-type": ("instance_type", _instance_type),
    f"{PREFIX}launch-type": (None, _launch_type),
    f"{PREFIX}gpu-type": ("gpu_kinds", _gpu_kinds),
    f"{PREFIX}volume-size": ("volume_bytes", _volume_bytes),
    f"{PREFIX}private-ip-only": ("private_ip_only", _flag),
    f"{PREFIX}security-groups": ("security_groups", _security_groups),
    f"{PREFIX}instance-profile": ("instance_profile", _instance_profile),
    f"{PREFIX}cloud-route": ("cloud_routes", _cloud_routes),
}
