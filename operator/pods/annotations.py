"""What users wish for a pod's machine: by its annotations, else by those of its namespace and of the configuration."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kip.model.annotations import ANNOTATIONS, HEALTHY_TIMEOUT, LAUNCH_TYPE, PREFIX, WITHOUT_EFFECT, read
from kip.model.requirements import MarketWish
from kip.pods.tree import Pod, entries

__all__ = [
    "LAUNCH_TYPE",
    "PREFIX",
    "Inherited",
    "InvalidAnnotationError",
    "Layer",
    "Wishes",
    "healthy_timeout_s",
    "unknown",
    "wishes",
    "without_effect",
]


_NAMES = [key.removeprefix(PREFIX) for key in ANNOTATIONS]


class InvalidAnnotationError(ValueError):
    """One or more annotations cannot be obeyed; the message says which, whose, their values and what is allowed."""


@dataclass(frozen=True)
class Layer:
    """Annotations that count for a pod which has none of the same name."""

    source: str
    """Whose they are, like `namespace shop`."""
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Inherited:
    """A value that is not the pod's own."""

    key: str
    value: str
    source: str

    def __str__(self) -> str:
        return f"{self.key}={self.value} of {self.source}"


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
    healthy_timeout_s: float | None = None
    """How long the pod's machine may be out of reach before the pod is given up; None is for ever."""
    inherited: tuple[Inherited, ...] = ()
    """Which of these are not from the pod itself."""


def wishes(pod: Pod, defaults: tuple[Layer, ...] = ()) -> Wishes:
    """Read a pod's annotations; for those that it lacks the first of `defaults` that has them counts.

    Raises:
        InvalidAnnotationError: one line for each wrong one.
    """
    values: dict[str, Any] = {}
    inherited, problems = [], []
    for key in ANNOTATIONS:
        found = _find(key, pod, defaults)
        if found is None:
            continue
        text, source = found
        try:
            values |= read(key, text)
        except ValueError as error:
            whose = f" of {source}" if source else ""
            problems.append(f"annotation {key}{whose}: {text!r} is not allowed: {error}")
        if source and key not in WITHOUT_EFFECT:
            inherited.append(Inherited(key, text, source))
    if problems:
        raise InvalidAnnotationError("\n".join(problems))
    return Wishes(**values, inherited=tuple(inherited))


def healthy_timeout_s(pod: Pod, defaults: tuple[Layer, ...] = ()) -> float | None:
    """Seconds that the machine of a running pod may be out of reach; None is for ever, as is a value that is wrong.

    A pod was launched with a right one. If somebody has changed it since, that is no reason to give the pod up.
    """
    found = _find(HEALTHY_TIMEOUT, pod, defaults)
    try:
        return read(HEALTHY_TIMEOUT, found[0])["healthy_timeout_s"] if found else None
    except ValueError:
        return None


def without_effect(pod: Pod) -> tuple[str, ...]:
    """A sentence for each annotation of the pod that is accepted and changes nothing."""
    own = entries(pod, "metadata", "annotations")
    return tuple(
        f"annotation {key} has no effect: {why}" for key, why in WITHOUT_EFFECT.items() if key in own
    )


def unknown(pod: Pod, defaults: tuple[Layer, ...] = ()) -> tuple[str, ...]:
    """A sentence for each annotation of the pod, or of its namespace, that begins like Kip's and is none: most likely a slip
    of the pen.

    The pod is served all the same, as it may be meant for another version of Kip.
    """
    layers = [("", entries(pod, "metadata", "annotations"))]
    layers += [(f" of {layer.source}", layer.annotations) for layer in defaults]
    return tuple(
        f"annotation {key}{whose} has no effect: {_meant(key)}"
        for whose, annotations in layers
        for key in sorted(annotations)
        if key.startswith(PREFIX) and key not in ANNOTATIONS
    )


def _meant(key: str) -> str:
    near = difflib.get_close_matches(key.removeprefix(PREFIX).lower(), _NAMES, n=1)
    return f"did you mean {PREFIX}{near[0]}?" if near else f"known are {', '.join(ANNOTATIONS)}"


def _find(key: str, pod: Pod, defaults: tuple[Layer, ...]) -> tuple[str, str] | None:
    """The value that counts and whose it is (empty: the pod's)."""
    own = entries(pod, "metadata", "annotations")
    if key in own:
        return own[key], ""
    layer = next((layer for layer in defaults if key in layer.annotations), None)
    return (layer.annotations[key], layer.source) if layer else None
