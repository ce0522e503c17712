"""The Node, Lease and CSINode of one cell's kubelet."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

NODE = "kip-provider-0"
ONE = f"/api/v1/nodes/{NODE}"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
CSINODES = "/apis/storage.k8s.io/v1/csinodes"

# The first patch of a kubelet 1.36 with one address and no devices, shortened.
FIRST_PATCH = {
    "status": {
        "$setElementOrder/conditions": [{"type": "MemoryPressure"}, {"type": "Ready"}],
        "addresses": [
            {"address": "10.0.0.7", "type": "InternalIP"},
            {"address": NODE, "type": "Hostname"},
            {"$patch": "replace"},
        ],
        "allocatable": {
            "cpu": "1930m",
            "ephemeral-storage": "18242267924",
            "hugepages-2Mi": "0",
            "memory": "900Mi",
        },
        "capacity": {
            "cpu": "2",
            "ephemeral-storage": "20961280Ki",
            "hugepages-2Mi": "0",
            "memory": "3943640Ki",
        },
        "conditions": [
            {"status": "False", "type": "MemoryPressure", "reason": "KubeletHasSufficientMemory"},
            {"status": "False", "type": "Ready", "reason": "KubeletNotReady", "message": "no CNI"},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        "nodeInfo": {"kubeletVersion": "v1.36.3", "architecture": "amd64"},
    }
}


async def test_the_node_is_the_virtual_one_on_the_cells_machine(running: Any, virtual_node: Any) -> None:
    node = (await running[1].get(ONE)).json
    real = virtual_node["metadata"]
    assert {
        key: node["metadata"][key] for key in ("name", "uid", "creationTimestamp", "labels", "annotations")
    } == {key: real[key] for key in ("name", "uid", "creationTimestamp", "labels", "annotations")}
    assert "managedFields" not in node["metadata"]
    assert [taint["effect"] for taint in node["spec"]["taints"]] == ["NoSchedule"]
    assert node["status"]["capacity"] == {
        "cpu": "2",
        "memory": "4Gi",
        "ephemeral-storage": "20Gi",
        "pods": "20",
    }
    assert node["status"]["allocatable"] == node["status"]["capacity"]
    assert node["status"]["addresses"] == [
        {"type": "InternalIP", "address": "10.0.0.7"},
        {"type": "Hostname", "address": NODE},
    ]
    assert "conditions" not in node["status"]


async def test_the_node_describes_the_cells_machine_whenever_its_pod_becomes_known(
    world: Any, identity: Any, make_pod: Any, virtual_node: Any
) -> None:
    arm = {"kubernetes.io/arch": "arm64", "topology.kubernetes.io/zone": "us-east-1b"}
    virtual = virtual_node["metadata"]["labels"]
    virtual["kubernetes.io/arch"] = "amd64"
    world.pods.replace([], "30")
    _, kubelet = await world.open(replace(identity, labels=arm))
    assert (await kubelet.get(ONE)).json["metadata"]["labels"] == {**virtual, **arm}
    await kubelet.patch(ONE, {"metadata": {"labels": {"of-a-plugin": "yes"}}})
    world.pods.put(make_pod(spec={"nodeSelector": {"kubernetes.io/arch": "amd64"}}))
    assert (await kubelet.get(ONE)).json["metadata"]["labels"] == {
        **virtual,
        "topology.kubernetes.io/zone": "us-east-1b",
        "of-a-plugin": "yes",
    }


async def test_devices_are_what_the_kubelet_has_reported(world: Any, identity: Any, make_pod: Any) -> None:
    pod = make_pod()
    pod["spec"]["containers"][0]["resources"]["requests"]["nvidia.com/gpu"] = "1"
    world.pods.replace([pod], "30")
    session, kubelet = await world.open(identity)
    assert session.offered("nvidia.com/gpu") == 0
    await kubelet.get(ONE)
    assert session.offered("nvidia.com/gpu") == 0, "what the pod needs does not make it so"
    news = asyncio.create_task(session.wait_node_news())
    reported = {"capacity": {"nvidia.com/gpu": "4"}, "allocatable": {"nvidia.com/gpu": "3"}}
    await kubelet.patch(ONE + "/status", {"status": reported})
    await asyncio.wait_for(news, 5)
    assert session.offered("nvidia.com/gpu") == 3


async def test_unknown_virtual_node_is_503(world: Any, identity: Any) -> None:
    world.node = None
    _, kubelet = await world.open(identity)
    for answer in (await kubelet.get(ONE), await kubelet.get("/api/v1/nodes"), await kubelet.patch(ONE, {})):
        assert answer.status == 503


async def test_capacity_unknown_for_the_instance_is_what_the_pod_needs(
    world: Any, identity: Any, make_pod: Any
) -> None:
    world.pods.replace([make_pod(spec={"overhead": {"memory": "128Mi"}})], "30")
    _, kubelet = await world.open(replace(identity, capacity={}))
    status = (await kubelet.get(ONE)).json["status"]
    assert status["allocatable"] == {"cpu": "1500m", "memory": "1207959552", "pods": "110"}


async def test_what_the_kubelet_reports_is_kept_but_never_refuses_its_pod(running: Any) -> None:
    _, kubelet = running
    answer = await kubelet.patch(ONE + "/status", FIRST_PATCH)
    status = answer.json["status"]
    assert status["allocatable"] == {
        "cpu": "1930m",
        "memory": "1073741824",
        "ephemeral-storage": "18242267924",
        "hugepages-2Mi": "0",
        "pods": "20",
    }
    assert status["capacity"]["memory"] == "3943640Ki"
    assert [condition["type"] for condition in status["conditions"]] == ["MemoryPressure", "Ready"]
    assert status["nodeInfo"]["kubeletVersion"] == "v1.36.3"
    assert (await kubelet.get(ONE)).json == answer.json


async def test_a_pod_that_grows_beyond_the_instance_is_the_kubelets_to_refuse(
    world: Any, identity: Any, make_pod: Any
) -> None:
    pod = make_pod()
    pod["spec"]["containers"][0]["resources"]["requests"] = {"memory": "64Gi"}
    world.pods.replace([pod], "30")
    _, kubelet = await world.open(identity)
    assert (await kubelet.get(ONE)).json["status"]["allocatable"]["memory"] == "4Gi"


async def test_a_patch_that_changes_nothing_keeps_the_version(running: Any) -> None:
    _, kubelet = running
    first = (await kubelet.patch(ONE + "/status", FIRST_PATCH)).json["metadata"]["resourceVersion"]
    again = (await kubelet.patch(ONE + "/status", FIRST_PATCH)).json["metadata"]["resourceVersion"]
    assert again == first
    changed = (await kubelet.patch(ONE + "/status", {"status": {"phase": "x"}})).json["metadata"][
        "resourceVersion"
    ]
    assert int(changed) > int(first)


async def test_a_patch_changes_neither_name_nor_spec(running: Any) -> None:
    _, kubelet = running
    before = (await kubelet.get(ONE)).json
    patch = {
        "metadata": {"name": "other", "uid": "other", "resourceVersion": "1", "labels": {"csi": "yes"}},
        "spec": {"taints": None, "providerID": "x"},
    }
    after = (await kubelet.patch(ONE + "/status", patch)).json
    assert (after["metadata"]["name"], after["metadata"]["uid"]) == (NODE, before["metadata"]["uid"])
    assert after["spec"] == before["spec"]
    assert after["metadata"]["labels"] == {**before["metadata"]["labels"], "csi": "yes"}


@pytest.mark.parametrize(
    "patch",
    [
        {"status": None},
        {"metadata": None},
        {"status": {"allocatable": 7}},
        {"status": {"allocatable": {"cpu": "many"}}},
        {"status": {"capacity": {"cpu": {}}}},
        {"status": {"conditions": [{"type": [1]}]}},
        {"status": {"$patch": "replace", "conditions": [{"status": "True"}]}},
        {"status": {"$patch": "replace", "conditions": [["Ready"]]}},
        {"status": {"$patch": "replace", "conditions": "Ready"}},
        {"status": {"$patch": "replace", "addresses": [{"type": 7}]}},
        {"status": {"addresses": [{"address": "10.0.0.8"}, {"$patch": "replace"}]}},
        {"status": {"addresses": ["10.0.0.8", {"$patch": "replace"}]}},
    ],
)
async def test_a_patch_that_breaks_the_node_is_refused(running: Any, world: Any, patch: Any) -> None:
    _, kubelet = running
    assert (await kubelet.patch(ONE + "/status", patch)).status == 422
    assert (await kubelet.get(ONE)).json["status"]["allocatable"]["cpu"] == "2"
    assert world.hooks.failures == []


async def test_what_a_patch_replaced_by_something_else_cannot_be_merged_with(
    running: Any, world: Any
) -> None:
    _, kubelet = running
    name = (await kubelet.get(ONE)).json["metadata"]["name"]
    odd = {"$patch": "replace", "name": name, "ownerReferences": "me", "finalizers": {"a": "b"}}
    assert (await kubelet.patch(ONE, {"metadata": odd})).status == 200
    for patch in (
        {"ownerReferences": [{"uid": "x"}]},
        {"$setElementOrder/ownerReferences": [{"uid": "x"}]},
        {"finalizers": ["c"]},
        {"$deleteFromPrimitiveList/finalizers": ["a"]},
    ):
        assert (await kubelet.patch(ONE, {"metadata": patch})).status == 422, patch
    assert world.hooks.failures == []


async def test_the_node_does_not_grow_without_limit(running: Any, limits: Any) -> None:
    _, kubelet = running
    patch = {"metadata": {"annotations": {f"a{n}": "x" * 1000 for n in range(50)}}}
    assert (await kubelet.patch(ONE + "/status", patch)).status == 413
    assert len((await kubelet.get(ONE)).text) < limits.own_object_bytes


async def test_the_list_has_one_node(running: Any) -> None:
    _, kubelet = running
    listed = (await kubelet.get("/api/v1/nodes", fieldSelector=f"metadata.name={NODE}")).json
    assert (listed["kind"], [item["metadata"]["name"] for item in listed["items"]]) == ("NodeList", [NODE])
    assert listed["metadata"]["resourceVersion"] == listed["items"][0]["metadata"]["resourceVersion"]


async def test_a_watch_tells_changes(running: Any) -> None:
    _, kubelet = running
    version = (await kubelet.get("/api/v1/nodes")).json["metadata"]["resourceVersion"]
    async with kubelet.watch("/api/v1/nodes", resourceVersion=version) as watch:
        assert await watch.silent()
        await kubelet.patch(ONE + "/status", FIRST_PATCH)
        kind, node = await watch.next()
        assert (kind, node["status"]["nodeInfo"]["kubeletVersion"]) == ("MODIFIED", "v1.36.3")
    async with kubelet.watch("/api/v1/nodes", resourceVersion=version) as watch:
        assert (await watch.next())[0] == "MODIFIED"


async def test_a_streamed_list_ends_with_its_bookmark(running: Any) -> None:
    _, kubelet = running
    streaming = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }
    async with kubelet.watch("/api/v1/nodes", **streaming) as watch:
        kind, node = await watch.next()
        assert (kind, node["metadata"]["name"]) == ("ADDED", NODE)
        kind, bookmark = await watch.next()
        assert kind == "BOOKMARK"
        assert bookmark["kind"] == "Node"
        assert bookmark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert bookmark["metadata"]["resourceVersion"] == node["metadata"]["resourceVersion"]
        await kubelet.patch(ONE + "/status", FIRST_PATCH)
        assert (await watch.next())[0] == "MODIFIED"


async def test_a_version_from_the_future_cannot_be_listed(running: Any) -> None:
    _, kubelet = running
    future = str(2**62)
    assert (await kubelet.get("/api/v1/nodes", resourceVersion=future)).status == 504
    assert (
        await kubelet.get("/api/v1/nodes", watch="true", sendInitialEvents="true", resourceVersion=future)
    ).status == 504


async def test_versions_grow_across_sessions(running: Any, world: Any, identity: Any) -> None:
    session, kubelet = running
    version = int((await kubelet.patch(ONE + "/status", FIRST_PATCH)).json["metadata"]["resourceVersion"])
    await session.close()
    _, again = await world.open(identity, pod_shown=True)
    assert int((await again.get(ONE)).json["metadata"]["resourceVersion"]) > version
    # A resumed watch is told the Node as it is now.
    async with again.watch("/api/v1/nodes", resourceVersion=str(version)) as watch:
        assert (await watch.next())[0] == "MODIFIED"


async def test_later_labels_of_the_virtual_node_do_not_reach_a_cell(running: Any, world: Any) -> None:
    _, kubelet = running
    await kubelet.get(ONE)
    world.node["metadata"]["labels"].clear()
    assert (await kubelet.get(ONE)).json["metadata"]["labels"]["type"] == "virtual-kubelet"


async def test_nothing_of_it_reaches_the_cluster(running: Any, world: Any) -> None:
    _, kubelet = running
    await kubelet.patch(ONE + "/status", FIRST_PATCH)
    await kubelet.ask("POST", LEASES, {"metadata": {"name": NODE}})
    await kubelet.ask("POST", CSINODES, {"metadata": {"name": NODE}})
    assert world.upstream.asked == []


def lease(**metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": NODE, **metadata}, "spec": {"holderIdentity": NODE}}


async def test_a_lease_lives_like_one(running: Any) -> None:
    _, kubelet = running
    assert (await kubelet.get(f"{LEASES}/{NODE}")).reason == "NotFound"
    assert (await kubelet.ask("PUT", f"{LEASES}/{NODE}", lease())).status == 404
    created = await kubelet.ask("POST", LEASES, lease())
    assert created.status == 201
    assert (created.json["kind"], created.json["apiVersion"]) == ("Lease", "coordination.k8s.io/v1")
    assert (await kubelet.ask("POST", LEASES, lease())).reason == "AlreadyExists"
    renewed = await kubelet.ask("PUT", f"{LEASES}/{NODE}", created.json)
    assert renewed.status == 200
    assert renewed.json["metadata"]["uid"] == created.json["metadata"]["uid"]
    stale = await kubelet.ask("PUT", f"{LEASES}/{NODE}", created.json)
    assert (stale.status, stale.reason) == (409, "Conflict")
    assert (await kubelet.ask("PUT", f"{LEASES}/{NODE}", lease(uid="other"))).status == 409
    assert (await kubelet.ask("PUT", f"{LEASES}/{NODE}", lease())).status == 200
    assert (await kubelet.ask("POST", LEASES, {"metadata": {"name": "other"}})).status == 400


async def test_a_csinode_lives_like_one(running: Any) -> None:
    _, kubelet = running
    csinode = {"metadata": {"name": NODE, "ownerReferences": [{"uid": "uid-node"}]}, "spec": {"drivers": []}}
    assert (await kubelet.get(f"{CSINODES}/{NODE}")).status == 404
    created = await kubelet.ask("POST", CSINODES, csinode)
    assert (created.status, created.json["metadata"]["ownerReferences"]) == (201, [{"uid": "uid-node"}])
    changed = {**created.json, "spec": {"drivers": [{"name": "efs.csi.aws.com", "nodeID": "i-1"}]}}
    assert (await kubelet.ask("PUT", f"{CSINODES}/{NODE}", changed)).json["spec"] == changed["spec"]
    assert (await kubelet.get(f"{CSINODES}/{NODE}")).json["spec"] == changed["spec"]
    assert (await kubelet.ask("DELETE", f"{CSINODES}/{NODE}")).status == 200
    assert (await kubelet.ask("DELETE", f"{CSINODES}/{NODE}")).status == 404
    assert (await kubelet.ask("POST", CSINODES, csinode)).status == 201


async def test_the_memory_that_a_kubelet_sees_is_told_and_not_what_its_node_is_shown_with(
    world: Any, identity: Any, make_pod: Any
) -> None:
    heard: list[int] = []
    world.pods.replace([make_pod(spec={"overhead": {"memory": "128Mi"}})], "30")
    _, kubelet = await world.open(identity, memory_seen=heard.append)
    await kubelet.get(ONE)
    assert heard == [], "what a cell is seeded with is not what was seen"
    assert (await kubelet.patch(ONE, FIRST_PATCH)).status == 200
    assert heard == [3943640 * 1024]
    for without in ({"status": {"capacity": {"memory": None}}}, {"status": {"capacity": {"cpu": "2"}}}, {}):
        assert (await kubelet.patch(ONE, without)).status == 200
    assert (await kubelet.patch(ONE, {"status": {"capacity": {"memory": "lots"}}})).status == 422
    assert heard == [3943640 * 1024]
