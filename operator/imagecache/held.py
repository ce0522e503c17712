"""What the Cells of the cluster say they have, and which machines they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from kip.cells.repository import CELLS_PATH
from kip.cloud import catalogue
from kip.kube.client import ApiClient
from kip.kube.errors import NotFound
from kip.kube.watch import list_all
from kip.pods.tree import Pod, dig, entries

CellObject = Mapping[str, Any]


def held(cells: Iterable[CellObject]) -> dict[str, str]:
    """Digests of the images that cells were given from the cache, each with the name of one such Cell."""
    return {
        digest: cell["metadata"]["name"]
        for cell in cells
        for digest in dig(cell, "status", "cachedImages") or ()
    }


async def ask(client: ApiClient) -> dict[str, str]:
    """The same as it is this moment, by a list that no cache answers. Raises KubeError."""
    try:
        return held((await list_all(client, CELLS_PATH, {})).items)
    except NotFound:
        return {}  # there is no such type, so there are no Cells


def architectures(cells: Iterable[CellObject]) -> Callable[[Pod], str | None]:
    """Tells the architecture of the machine that a pod has got, by its Cell; None while it has none."""
    types = {entries(c, "spec").get("podUID"): dig(c, "status", "instanceType") for c in cells}
    return lambda pod: _known().get(types.get(pod["metadata"]["uid"]) or "")


@cache
def _known() -> Mapping[str, str]:
    return {kind.name: kind.architecture for kind in catalogue.everything()}
