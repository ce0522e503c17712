"""What the Cells of the cluster say they have, and which machines they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from kip.cloud import catalogue
from kip.pods.tree import Pod, dig, entries

CellObject = Mapping[str, Any]


def held(cells: Iterable[CellObject]) -> dict[str, str]:
    """Digests of the images that cells were given from the cache, each with the name of one such Cell."""
    return {
        digest: cell["metadata"]["name"]
        for cell in cells
        for digest in dig(cell, "status", "cachedImages") or ()
    }


def architectures(cells: Iterable[CellObject]) -> Callable[[Pod], str | None]:
    """Tells the architecture of the machine that a pod has got, by its Cell; None while it has none."""
    types = {entries(c, "spec").get("podUID"): dig(c, "status", "instanceType") for c in cells}
    return lambda pod: _known().get(types.get(pod["metadata"]["uid"]) or "")


@cache
def _known() -> Mapping[str, str]:
    return {kind.name: kind.architecture for kind in catalogue.everything()}
