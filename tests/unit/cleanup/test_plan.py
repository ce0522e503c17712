"""What is removed, in which order, and when nothing is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kip.cleanup.plan import Found, plan
from kip.cloud.base import Instance, SecurityGroup
from kip.cloud.routes import Route, RouteTable

NET, OTHER_NET = "172.20.0.0/16", "172.21.0.0/16"


def instance(number: int, state: Any = "running") -> Instance:
    return Instance(
        id=f"i-{number}",
        state=state,
        instance_type="t3.small",
        zone="us-east-1a",
        network_interface_id=f"eni-{number}",
        launch_time=datetime(2026, 1, 1, tzinfo=UTC),
        tags={"kip.elotl.co/cluster": "blue", "kip.elotl.co/node": "kip-provider-0"},
    )


def cell(name: str, interface: str | None = None, *cidrs: str) -> dict[str, Any]:
    spec = {"podNamespace": "shop", "podName": name, "nodeName": "kip-provider-0"}
    routes = {"networkInterfaceID": interface, "vpcID": "vpc-1", "subnetID": "subnet-1", "cidrs": list(cidrs)}
    return {
        "metadata": {"name": name},
        "spec": spec,
        "status": {"cloudRoutes": routes if interface else None},
    }


def table(*routes: Route) -> RouteTable:
    return RouteTable("rtb-1", "vpc-1", True, frozenset(), routes)


def to(interface: str, cidr: str) -> Route:
    return Route(cidr, network_interface_id=interface, to=interface)


def pod(name: str, phase: str = "Running", owner: str = "ReplicaSet") -> dict[str, Any]:
    owners = [{"kind": owner, "name": "x", "controller": True}]
    return {
        "metadata": {"name": name, "namespace": "shop", "ownerReferences": owners},
        "status": {"phase": phase},
    }


def test_nothing_is_left_to_do_about_nothing() -> None:
    assert plan(Found(cluster="blue")).steps == ()


def test_what_others_depend_on_goes_last() -> None:
    found = Found(
        cluster="blue",
        nodes=("kip-provider-0",),
        cells=(cell("web", "eni-1", NET),),
        leases=(("kip", "kip-provider-0"), ("kube-node-lease", "kip-provider-0")),
        instances=(instance(1),),
        tables=(table(to("eni-1", NET)),),
        groups=(SecurityGroup(id="sg-1", name="kip-blue-cells", vpc_id="vpc-1"),),
    )
    made = plan(found)
    assert [(step.kind, step.name, step.within) for step in made.steps] == [
        ("route", NET, "rtb-1"),
        ("instance", "i-1", ""),
        ("cell", "web", ""),
        ("node", "kip-provider-0", ""),
        ("lease", "kip-provider-0", "kip"),
        ("lease", "kip-provider-0", "kube-node-lease"),
        ("security group", "sg-1", ""),
    ]
    assert made.refusals == ()


def test_routes_are_those_that_cells_recorded_and_those_to_the_clusters_instances() -> None:
    found = Found(
        cluster="blue",
        cells=(cell("gone", "eni-7", NET), cell("plain"), {"metadata": {"name": "odd"}}),
        instances=(instance(1),),
        tables=(
            table(
                to("eni-7", NET),
                to("eni-1", OTHER_NET),
                to("eni-7", "172.22.0.0/16"),
                to("eni-theirs", "172.23.0.0/16"),
                Route("10.0.0.0/16", to="local"),
            ),
        ),
    )
    routes = [step.name for step in plan(found).steps if step.kind == "route"]
    assert sorted(routes) == [NET, OTHER_NET], "not what others led to a cell, nor to anything else"


@pytest.mark.parametrize(
    ("bound", "refused"),
    [
        (pod("web"), True),
        (pod("web", "Pending"), True),
        (pod("job", "Succeeded"), False),
        (pod("job", "Failed"), False),
        (pod("agent", "Pending", "DaemonSet"), False),
        (pod("agent", "Running", "DaemonSet"), True),
    ],
)
def test_pods_that_need_their_node_are_a_reason_against_it(bound: dict[str, Any], refused: bool) -> None:
    refusals = plan(Found(cluster="blue", pods=(bound,))).refusals
    assert bool(refused) == bool(refusals)
    assert all(f"shop/{bound['metadata']['name']}" in why for why in refusals)


def test_many_pods_are_counted_not_named() -> None:
    (why,) = plan(Found(cluster="blue", pods=tuple(pod(f"web-{n}") for n in range(54)))).refusals
    assert " and 4 more" in why


def test_a_running_operator_is_a_reason_against_it() -> None:
    (why,) = plan(Found(cluster="blue", operators=(("kip-provider-0", "kip-abc"),))).refusals
    assert "kip-abc serves kip-provider-0" in why
    assert "helm uninstall" in why
