"""Section `registries`: where images come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field

from kip.config.schema.section import Section
from kip.config.types import one_or_many, parsed, words


def _mirrors(value: Any) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(value, Mapping):
        raise TypeError(value)
    return {
        str(registry): tuple(_mirror(url) for url in words(one_or_many(urls)))
        for registry, urls in value.items()
    }


def _mirror(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(url)
    return url


class Registries(Section):
    """Where images come from, as far as Kip itself asks: for the image cache, and to see what an image is made for."""

    mirrors: Annotated[
        Mapping[str, tuple[str, ...]],
        parsed(_mirrors, "registries with their mirrors, like {docker.io: [https://cache.example.com]}"),
        Field(
            description="URLs at which a registry is asked in place of its own name, in this order, until one has the "
            "image; `*` stands for all registries that are not named. They get the pod's credentials. The registry "
            "itself is asked only if it is in the list (Docker Hub is https://registry-1.docker.io). Cells have their "
            "own mirrors (`hosts.toml` of containerd)."
        ),
    ] = {}
