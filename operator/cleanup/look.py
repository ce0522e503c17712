"""Finding what there is of one cluster's Kip."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from kip.cells.repository import CELLS_PATH
from kip.cleanup.plan import Found, recorded_routes
from kip.cloud.base import Compute, Network
from kip.cloud.routes import RouteTable, Routing
from kip.kube.client import ApiClient
from kip.kube.errors import NotFound
from kip.kube.watch import list_all
from kip.model import names
from kip.model.clock import Clock

_NODE_LEASES = "kube-node-lease"
# Of an operator's Lease, if it does not say so itself (kip.kube.lease).
_LEASE_S = 10


@dataclass(frozen=True, slots=True)
class Places:
    """Where to look."""

    api: ApiClient
    compute: Compute
    network: Network
    routing: Routing
    clock: Clock


async def look(
    places: Places, *, cluster: str, node_names: Collection[str], namespace: str, operators: bool = True
) -> Found:
    """What is there.

    Takes as long as a Lease counts, some ten seconds, if one is held: only by its renewal, and by no clock of another
    machine, can be told whether its holder lives. Raises KubeError, CloudError.

    Args:
        node_names: the virtual nodes of the configuration; there may have been others before.
        namespace: of the operator.
        operators: whether to look for processes that serve the nodes.
    """
    nodes = await _nodes(places.api)
    ours = {name for name, provider in nodes.items() if provider == names.provider_id(cluster, name)}
    cells = await all_cells(places.api)
    instances = [
        i for i in await places.compute.describe(tags={names.TAG_CLUSTER: cluster}) if i.state != "terminated"
    ]
    known = {*ours, *node_names, *(cell["spec"]["nodeName"] for cell in cells)}
    known |= {i.tags[names.TAG_NODE] for i in instances if names.TAG_NODE in i.tags}
    # A Node of that name which Kip did not make is somebody else's, and so is all that is called after it.
    known -= nodes.keys() - ours
    leases = await _leases(places.api, known, namespace)
    return Found(
        cluster=cluster,
        nodes=tuple(sorted(ours)),
        pods=tuple([pod for name in sorted(known) for pod in await pods_on(places.api, name)]),
        cells=tuple(cells),
        leases=tuple(sorted(leases)),
        secrets=tuple(await _secrets(places.api, namespace)),
        operators=await _operators(
            places, {key: lease for key, lease in leases.items() if key[0] == namespace}
        )
        if operators
        else (),
        instances=tuple(instances),
        tables=await _tables(places, cells, routed=bool(instances)),
        groups=tuple(await places.network.cell_security_groups(cluster)),
    )


async def _nodes(api: ApiClient) -> dict[str, str]:
    """Every Node and its provider ID."""
    listed = await list_all(api, "/api/v1/nodes", {})
    return {n["metadata"]["name"]: (n.get("spec") or {}).get("providerID", "") for n in listed.items}


async def all_cells(api: ApiClient) -> list[dict[str, Any]]:
    """Every Cell; none where their type is not there. Raises KubeError."""
    try:
        return (await list_all(api, CELLS_PATH, {})).items
    except NotFound:
        return []  # their type has been removed, and they with it


async def cells_of(api: ApiClient, node: str) -> list[dict[str, Any]]:
    """The Cells of a virtual node's pods. Raises KubeError."""
    return [cell for cell in await all_cells(api) if cell["spec"]["nodeName"] == node]


async def pods_on(api: ApiClient, node: str) -> list[dict[str, Any]]:
    """The pods that are bound to a node. Raises KubeError."""
    return (await list_all(api, "/api/v1/pods", {"fieldSelector": f"spec.nodeName={node}"})).items


async def _secrets(api: ApiClient, namespace: str) -> list[tuple[str, str]]:
    """The processes' keys, and kept logs."""
    path, found = f"/api/v1/namespaces/{namespace}/secrets", set()
    for selector in (f"{names.LABEL_APP}={names.APP}", f"{names.LABEL_MANAGED_BY}={names.APP}"):
        listed = await list_all(api, path, {"labelSelector": selector})
        found |= {(namespace, secret["metadata"]["name"]) for secret in listed.items}
    return sorted(found)


def _lease_path(namespace: str, name: str) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"


async def _leases(
    api: ApiClient, nodes: Collection[str], namespace: str
) -> dict[tuple[str, str], Mapping[str, Any]]:
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for name in sorted(nodes):
        for place in (namespace, _NODE_LEASES):
            lease = await _get(api, _lease_path(place, name))
            if lease is not None:
                found[place, name] = lease
    return found


async def _operators(
    places: Places, leases: Mapping[tuple[str, str], Mapping[str, Any]]
) -> tuple[tuple[str, str], ...]:
    """(node, process) of the Leases that somebody renews while we look."""
    held = {
        key: lease["spec"] for key, lease in leases.items() if (lease.get("spec") or {}).get("holderIdentity")
    }
    if not held:
        return ()
    await places.clock.sleep(
        max(float(spec.get("leaseDurationSeconds") or _LEASE_S) for spec in held.values())
    )
    alive = []
    for (namespace, name), before in held.items():
        now = ((await _get(places.api, _lease_path(namespace, name))) or {}).get("spec") or {}
        if now.get("holderIdentity") and now.get("renewTime") != before.get("renewTime"):
            alive.append((name, str(now["holderIdentity"])))
    return tuple(alive)


async def _tables(
    places: Places, cells: Collection[Mapping[str, Any]], *, routed: bool
) -> tuple[RouteTable, ...]:
    """All of the region if there may be routes to cells, and otherwise none: reading them is a permission of its own."""
    if not routed and not any(recorded_routes(cell) for cell in cells):
        return ()
    return tuple(await places.routing.route_tables())


async def _get(api: ApiClient, path: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = await api.get(path)
    except NotFound:
        return None
    return found
