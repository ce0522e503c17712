"""The annotations `pod.elotl.co/*`, with which users say what kind of machine a pod gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kip.model.patterns import INSTANCE_PROFILE, INSTANCE_TYPE_GLOB, SECURITY_GROUP, UNUSABLE_FAMILY
from kip.model.quantity import QuantityError, whole
from kip.model.requirements import Market
from kip.pods.tree import Pod, entries

PREFIX = "pod.elotl.co/"

# As Go's strconv.ParseBool, which the first Kip used.
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_MARKETS: dict[str, Market] = {"spot": "spot", "on-demand": "on-demand"}


class InvalidAnnotationError(ValueError):
    """One or more annotations cannot be obeyed; the message says which, their values and what is allowed."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the annotations ask for; None where there is none."""

    instance_type: str | None = None
    market: Market | None = None
    volume_bytes: int | None = None
    private_ip_only: bool | None = None
    security_groups: tuple[str, ...] = ()
    instance_profile: str | None = None


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
            values[field] = parse(given[key])
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


def _market(text: str) -> Market:
    name = text.strip().lower()
    if name == "dedicated":
        raise ValueError("dedicated hosts are not supported; expected spot or on-demand")
    if name not in _MARKETS:
        raise ValueError("expected spot or on-demand")
    return _MARKETS[name]


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


_READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    f"{PREFIX}instance-type": ("instance_type", _instance_type),
    f"{PREFIX}launch-type": ("market", _market),
    f"{PREFIX}volume-size": ("volume_bytes", _volume_bytes),
    f"{PREFIX}private-ip-only": ("private_ip_only", _flag),
    f"{PREFIX}security-groups": ("security_groups", _security_groups),
    f"{PREFIX}instance-profile": ("instance_profile", _instance_profile),
}
