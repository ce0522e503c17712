"""What is to be removed, in which order, and why it must not be: pure decisions over what was found."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kip.cells import routeplan
from kip.cells.routeplan import Claim
from kip.cloud.base import Instance, SecurityGroup
from kip.cloud.routes import RouteTable
from kip.model import names
from kip.model.cell import CloudRoutes

Object = Mapping[str, Any]
Kind = Literal["route", "instance", "cell", "node", "lease", "secret", "security group"]

_ENDED = frozenset(("Succeeded", "Failed"))
# More are counted instead of named.
_NAMED = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What there is of one cluster's Kip."""

    cluster: str
    """The value of the tag kip.elotl.co/cluster."""
    nodes: tuple[str, ...] = ()
    """Node objects that Kip made."""
    pods: tuple[Object, ...] = ()
    """Pods that are bound to virtual nodes."""
    cells: tuple[Object, ...] = ()
    leases: tuple[tuple[str, str], ...] = ()
    """Namespace and name."""
    secrets: tuple[tuple[str, str], ...] = ()
    """Likewise: keys of the operator's processes, and logs that were kept of ended pods."""
    operators: tuple[tuple[str, str], ...] = ()
    """(virtual node, process) of each Lease that is being renewed."""
    instances: tuple[Instance, ...] = ()
    """With the cluster's tag, those that are ending included."""
    tables: tuple[RouteTable, ...] = ()
    """All that may have routes to them."""
    groups: tuple[SecurityGroup, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is removed."""

    kind: Kind
    name: str
    what: str
    """For people, beside the name."""
    within: str = ""
    """The route table of a route, the namespace of a Lease or a Secret."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order in which they are done."""

    steps: tuple[Step, ...]
    refusals: tuple[str, ...]
    """Why nothing should be done as it is."""


def plan(found: Found) -> Plan:
    """What to remove.

    Routes come first, while there is an interface that says whose they are. Cells go only when their instances have
    ended: they are what a second run finds if the first one breaks off. The security group is last, because EC2
    deletes none that an interface still has.
    """
    steps = (
        *_routes(found),
        *(_instance(instance) for instance in found.instances),
        *(_cell(cell) for cell in found.cells),
        *(Step("node", name, "the virtual node") for name in found.nodes),
        *(Step("lease", name, f"in namespace {namespace}", namespace) for namespace, name in found.leases),
        *(Step("secret", name, f"in namespace {namespace}", namespace) for namespace, name in found.secrets),
        *(Step("security group", g.id, f"{g.name} in {g.vpc_id}") for g in found.groups),
    )
    return Plan(steps, tuple(_refusals(found)))


def _refusals(found: Found) -> Iterator[str]:
    for node, process in found.operators:
        yield (
            f"{process} serves {node} and would make again what is removed: uninstall Kip first "
            "(helm uninstall, or scale its Deployment to 0)"
        )
    using = [pod_name(pod) for pod in found.pods if in_use(pod)]
    if using:
        yield (
            f"pods are bound to the virtual nodes and would lose their machines: {_listed(using)}; "
            "delete them first"
        )


def pod_name(pod: Object) -> str:
    """`namespace/name`."""
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def in_use(pod: Object) -> bool:
    """Whether this pod needs its node.

    Not one that has ended; nor one of a DaemonSet that waits, as they do on every node: it goes with the node.
    """
    phase = (pod.get("status") or {}).get("phase", "Pending")
    owners = pod["metadata"].get("ownerReferences") or ()
    if phase in _ENDED:
        return False
    return phase != "Pending" or not any(o.get("controller") and o["kind"] == "DaemonSet" for o in owners)


def _routes(found: Found) -> Iterator[Step]:
    """What the Cells have recorded, and what leads to machines that carry the cluster's tag."""
    claims = [
        Claim(
            cell=cell["metadata"]["name"],
            network_interface_id=routes.network_interface_id,
            vpc_id=routes.vpc_id,
            subnet_id=routes.subnet_id,
            recorded=frozenset(routes.cidrs),
            wanted=frozenset(),
            ended=True,
        )
        for cell in found.cells
        if (routes := recorded_routes(cell)) is not None
    ]
    claimed = {claim.network_interface_id for claim in claims}
    interfaces = {i.network_interface_id for i in found.instances if i.network_interface_id}
    for step in routeplan.plan(found.tables, claims, interfaces - claimed).steps:
        yield Step("route", step.cidr, f"in {step.table_id}, {step.reason}", step.table_id)


def recorded_routes(cell: Object) -> CloudRoutes | None:
    """The routes that a Cell has recorded; None also for what cannot be read."""
    recorded = (cell.get("status") or {}).get("cloudRoutes")
    try:
        return CloudRoutes.from_dict(recorded) if recorded else None
    except (KeyError, TypeError):
        return None


def _instance(instance: Instance) -> Step:
    node = instance.tags.get(names.TAG_NODE, "no node")
    return Step("instance", instance.id, f"{instance.instance_type}, {instance.state}, of {node}")


def _cell(cell: Object) -> Step:
    spec = cell.get("spec") or {}
    return Step("cell", cell["metadata"]["name"], f"of pod {spec.get('podNamespace')}/{spec.get('podName')}")


def _listed(some: Collection[str]) -> str:
    shown = ", ".join(sorted(some)[:_NAMED])
    return shown if len(some) <= _NAMED else f"{shown} and {len(some) - _NAMED} more"


def by_kind(steps: Iterable[Step]) -> dict[Kind, list[Step]]:
    """The steps of each kind, in order."""
    found: dict[Kind, list[Step]] = {}
    for step in steps:
        found.setdefault(step.kind, []).append(step)
    return found
