"""What the cluster sees of all cells: one Node, its Lease, and the list of Cells."""

from __future__ import annotations

import re

import pytest
from support import manifests
from support.cluster import Object
from support.world import E2eWorld, condition, container_ids, restarts

from kip.model.clock import from_rfc3339

pytestmark = pytest.mark.e2e

RECREATED = 10.0  # seconds


@pytest.fixture(scope="module")
def pod(world: E2eWorld, shared_namespace: str) -> Object:
    """A pod that runs all the while."""
    [pod] = world.run(manifests.pod("witness", shared_namespace))
    return pod


def node(world: E2eWorld) -> Object:
    return world.existing("nodes", manifests.NODE)


def test_the_node_says_what_it_is(world: E2eWorld) -> None:
    found = node(world)
    labels = {
        "type": "virtual-kubelet",
        "kubernetes.io/hostname": manifests.NODE,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "node.kubernetes.io/exclude-from-external-load-balancers": "true",
    }
    assert labels.items() <= found["metadata"]["labels"].items()
    assert found["spec"]["providerID"] == f"kip://kip-local-{world.world.name}/{manifests.NODE}"
    assert found["spec"]["taints"] == [
        {"key": "virtual-kubelet.io/provider", "value": "kip", "effect": "NoSchedule"}
    ]
    status = found["status"]
    assert status["addresses"] == [{"type": "InternalIP", "address": str(world.world.host_address)}]
    assert status["daemonEndpoints"]["kubeletEndpoint"]["Port"] == world.world.ports["kubelet"]
    assert status["capacity"] == status["allocatable"]
    assert status["capacity"] == {"cpu": "20", "memory": "100Gi", "pods": "20", "ephemeral-storage": "400Gi"}


def test_the_node_is_ready_and_shows_the_clusters_version(world: E2eWorld) -> None:
    found = node(world)
    assert condition(found, "Ready") == "True"
    for kind in ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"):
        assert condition(found, kind) == "False"
    server = re.search(r'"gitVersion": ?"([^"]+)"', world.raw("/version")[1])
    assert server
    listed = world.kubectl("get", "nodes", manifests.NODE, "--no-headers").stdout.split()
    assert (listed[1], listed[-1]) == ("Ready", server[1])


def test_the_nodes_lease_is_its_own_and_renewed(world: E2eWorld) -> None:
    def lease() -> Object:
        return world.existing("leases", manifests.NODE, "kube-node-lease")

    first = lease()
    assert first["spec"]["holderIdentity"] == manifests.NODE
    assert first["metadata"]["ownerReferences"][0]["uid"] == node(world)["metadata"]["uid"]
    before = from_rfc3339(first["spec"]["renewTime"])
    world.eventually(
        lambda: from_rfc3339(lease()["spec"]["renewTime"]) > before,
        first["spec"]["leaseDurationSeconds"] / 2,
        "the lease was renewed",
    )


def test_a_deleted_node_is_back_within_seconds_and_its_pods_notice_nothing(
    world: E2eWorld, pod: Object
) -> None:
    namespace = pod["metadata"]["namespace"]
    old = node(world)["metadata"]["uid"]
    world.kubectl("delete", "node", manifests.NODE)

    def back() -> bool:
        found = node(world)
        assert found["metadata"]["uid"] != old
        assert found["spec"]["providerID"]
        return condition(found, "Ready") == "True"

    world.eventually(back, RECREATED, "the node is there and Ready again")

    def leased() -> bool:
        owners = world.existing("leases", manifests.NODE, "kube-node-lease")["metadata"]["ownerReferences"]
        return owners[0]["uid"] == node(world)["metadata"]["uid"]

    world.eventually(leased, 30, "the lease is the new node's")
    now = world.existing("pods", "witness", namespace)
    assert now["metadata"]["uid"] == pod["metadata"]["uid"]
    assert container_ids(now) == container_ids(pod)
    assert restarts(now) == {"web": 0}
    assert condition(now, "Ready") == "True"
    assert "serving on" in world.kubectl("logs", "-n", namespace, "witness").stdout
    [new] = world.run(manifests.pod("afterwards", namespace))
    assert new["spec"]["nodeName"] == manifests.NODE


def test_get_cells_prints_what_people_know_from_kip(world: E2eWorld, pod: Object) -> None:
    header, *rows = world.kubectl("get", "cells").stdout.splitlines()
    assert header.split() == (
        [
            "NAME",
            "PHASE",
            "POD",
            "NAMESPACE",
            "NODE",
            "LAUNCH-TYPE",
            "INSTANCE-TYPE",
            "INSTANCE-ID",
            "IP",
            "AGE",
        ]
    )
    namespace = pod["metadata"]["namespace"]
    [row] = [row.split() for row in rows if "witness" in row.split()]
    assert row[:-1] == [
        f"kip-{pod['metadata']['uid']}",
        "Running",
        "witness",
        namespace,
        manifests.NODE,
        "On-Demand",
        "t3.small",
        world.instance_of("witness", namespace),
        pod["status"]["hostIP"],
    ]
    assert world.kubectl("get", "cl", "-o", "name").stdout.count("cell.kip.elotl.co/") == len(rows)


def test_a_cells_conditions_tell_how_far_it_is(world: E2eWorld, pod: Object) -> None:
    cell = world.cell_of("witness", pod["metadata"]["namespace"])
    assert cell
    for kind in ("Launched", "Connected", "Serving", "Ready"):
        assert condition(cell, kind) == "True", cell["status"]
    for kind in ("Drained", "Terminated"):
        assert condition(cell, kind) in (None, "False")
