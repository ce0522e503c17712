"""Every check, in the order in which somebody new would mend what is wrong: what is above makes sense of what is below."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from kip.doctor.checks import clock, cluster, identity, machines, network, permissions, reach
from kip.doctor.facts import Facts
from kip.doctor.finding import Finding


@dataclass(frozen=True)
class Check:
    """One check."""

    id: str
    """For programs; never changes."""
    section: str
    """For people."""
    look: Callable[[Facts], Iterable[Finding]]


_CLUSTER, _AWS, _NETWORK, _MACHINES, _OPTIONAL = "cluster", "AWS account", "network", "machines", "optional"

CHECKS = (
    Check("configuration", _CLUSTER, cluster.configuration),
    Check("api-server", _CLUSTER, cluster.api_server),
    Check("cell-type", _CLUSTER, cluster.cell_type),
    Check("rbac", _CLUSTER, cluster.rbac),
    Check("dns", _CLUSTER, cluster.dns),
    Check("virtual-nodes", _CLUSTER, cluster.virtual_nodes),
    Check("place", _AWS, identity.place),
    Check("clock", _AWS, clock.clock),
    Check("credentials", _AWS, identity.credentials),
    Check("permissions-to-look", _AWS, permissions.looking),
    Check("subnets", _NETWORK, network.subnets),
    Check("addresses", _NETWORK, network.free_addresses),
    Check("way-out", _NETWORK, network.way_out),
    Check("security-groups", _NETWORK, network.security_groups),
    Check("way-to-cells", _NETWORK, reach.cells),
    Check("images", _MACHINES, machines.images),
    Check("instance-profile", _MACHINES, machines.instance_profile),
    Check("permissions-to-do", _MACHINES, permissions.doing),
    Check("quotas", _MACHINES, machines.quotas),
    Check("image-cache", _OPTIONAL, reach.image_cache),
    Check("permissions-to-pull", _OPTIONAL, permissions.pulling),
    Check("permissions-to-know", _OPTIONAL, permissions.knowing),
)


@dataclass(frozen=True)
class Line:
    """A finding, and whose."""

    check: Check
    finding: Finding


def judge(facts: Facts, checks: Iterable[Check] = CHECKS) -> Iterator[Line]:
    """All findings, in that order."""
    for check in checks:
        yield from (Line(check, finding) for finding in check.look(facts))
