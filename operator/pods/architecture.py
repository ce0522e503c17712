"""Which architecture a pod that says nothing about it needs, by what its images are built for. See docs/designs/0007."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from kip.pods.placement import ARCHITECTURES

#: What an image that is built for both architectures is run on: `amd64`, or whatever is the cheapest.
Preference = Literal["amd64", "cheapest"]


@dataclass(frozen=True, slots=True)
class Built:
    """What is known of an image."""

    architectures: frozenset[str] | None
    """For Linux, as Kubernetes names them; None when not known."""
    why: str = ""
    """Why it is not known."""


@dataclass(frozen=True, slots=True)
class OfImages:
    """What follows from a pod's images."""

    architectures: frozenset[str] | None
    """Any of these; None when the usual one will do, or nothing better is known. Empty when no machine could run all."""
    told: str = ""
    """For people; mostly empty."""


NOTHING_SAID = OfImages(None)


def linux(platforms: Iterable[str]) -> frozenset[str]:
    """The architectures among platforms like `linux/arm64/v8`; build attestations (`unknown/unknown`) are none."""
    parts = (platform.split("/") for platform in platforms)
    return frozenset(part[1] for part in parts if len(part) > 1 and part[0] == "linux")


def of_images(images: Mapping[str, Built], preference: Preference = "amd64") -> OfImages:
    """Decide for a pod with these images, all of which run on one machine."""
    known = [built.architectures for built in images.values() if built.architectures is not None]
    unknown = {name: built.why for name, built in images.items() if built.architectures is None}
    told = "; ".join(f"it is not known what {name} is built for ({why})" for name, why in unknown.items())
    if not known:
        return OfImages(None, told)
    possible = ARCHITECTURES.intersection(*known)
    if len(possible) > 1:
        # An image that nobody knows is far more often for amd64 than for anything else.
        return OfImages(possible if preference == "cheapest" and not unknown else None, told)
    if possible == {"arm64"}:
        told = "; ".join(filter(None, ("the pod's images are built for arm64", told)))
    return OfImages(possible, told)
