"""The API server in memory behaves as the real one, as far as the operator relies on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from kip.kube.client import ApiClient
from kip.kube.errors import Conflict, NotFound
from kip.kube.fake import FakeApi
from kip.kube.waiting import when_available
from kip.kube.watch import Changed, Listed, follow, list_all
from kip.model.clock import SystemClock

NODE = "fake-node"
CONTAINERS = [{"name": "main", "image": "registry.example/nothing:1"}]
CELLS = "/apis/kip.elotl.co/v1beta1/cells"


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.integration)])
async def api(request: pytest.FixtureRequest) -> AsyncIterator[ApiClient]:
    if request.param == "fake":
        yield FakeApi()
        return
    client = await ApiClient.connect(request.getfixturevalue("control_plane").kubeconfig)
    yield client
    await client.close()


@pytest.fixture
async def namespace(api: ApiClient) -> AsyncIterator[str]:
    name = f"fake-{uuid4().hex[:8]}"
    await api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    path = f"/api/v1/namespaces/{name}"
    if not isinstance(api, FakeApi):
        for _ in range(400):
            try:
                await api.get(f"{path}/serviceaccounts/default")
                break
            except NotFound:
                await asyncio.sleep(0.05)
    yield path
    for pod in (await list_all(api, f"{path}/pods", {})).items:
        await api.patch(f"{path}/pods/{pod['metadata']['name']}", {"metadata": {"finalizers": None}})
        await api.delete(f"{path}/pods/{pod['metadata']['name']}", {"gracePeriodSeconds": 0})
    await api.delete(path)


async def a_pod(api: ApiClient, namespace: str, name: str = "web", **metadata) -> dict:
    body = {"metadata": {"name": name, **metadata}, "spec": {"nodeName": NODE, "containers": CONTAINERS}}
    pod: dict = await api.create(f"{namespace}/pods", body)
    return pod


async def test_a_name_is_taken_once(api, namespace):
    pod = await a_pod(api, namespace)
    assert pod["status"]["phase"] == "Pending"
    assert pod["metadata"]["uid"]
    with pytest.raises(Conflict):
        await a_pod(api, namespace)
    with pytest.raises(NotFound):
        await api.get(f"{namespace}/pods/other")


async def test_a_write_based_on_an_old_version_is_a_conflict(api, namespace):
    pod = await a_pod(api, namespace)
    path, version = f"{namespace}/pods/web", pod["metadata"]["resourceVersion"]
    newer = await api.patch(path, {"metadata": {"labels": {"a": "b"}}})
    assert int(newer["metadata"]["resourceVersion"]) > int(version)
    for write in (
        lambda: api.patch(path, {"metadata": {"resourceVersion": version, "labels": {"a": "c"}}}),
        lambda: api.patch(
            f"{path}/status", {"metadata": {"resourceVersion": version}, "status": {"reason": "r"}}
        ),
        lambda: api.replace(path, {**pod, "metadata": {**pod["metadata"], "labels": {"a": "d"}}}),
    ):
        with pytest.raises(Conflict):
            await write()
    assert (await api.get(path))["metadata"]["labels"]["a"] == "b"


async def test_a_patch_for_another_uid_is_a_conflict(api, namespace):
    await a_pod(api, namespace)
    patch = {"metadata": {"uid": str(uuid4())}, "status": {"reason": "r"}}
    with pytest.raises(Conflict):
        await api.patch(f"{namespace}/pods/web/status", patch)


async def test_a_patch_that_changes_nothing_makes_no_version(api, namespace):
    pod = await a_pod(api, namespace, labels={"a": "b"})
    same = await api.patch(f"{namespace}/pods/web", {"metadata": {"labels": {"a": "b"}}})
    assert same["metadata"]["resourceVersion"] == pod["metadata"]["resourceVersion"]


async def test_status_is_written_apart_and_null_takes_away(api, namespace):
    await a_pod(api, namespace)
    path = f"{namespace}/pods/web"
    await api.patch(path, {"status": {"reason": "ignored"}})
    assert "reason" not in (await api.get(path))["status"]
    await api.patch(f"{path}/status", {"metadata": {"labels": {"ignored": "x"}}, "status": {"reason": "r"}})
    pod = await api.get(path)
    assert pod["status"]["reason"] == "r"
    await api.patch(f"{path}/status", {"status": {"reason": None}})
    assert "reason" not in (await api.get(path))["status"]


async def test_a_pod_on_a_node_is_only_marked_until_its_kubelet_confirms(api, namespace):
    pod = await a_pod(api, namespace)
    path = f"{namespace}/pods/web"
    await api.delete(path)
    marked = await api.get(path)
    assert marked["metadata"]["deletionTimestamp"]
    with pytest.raises(Conflict):
        await api.delete(path, {"gracePeriodSeconds": 0, "preconditions": {"uid": str(uuid4())}})
    await api.delete(path, {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}})
    with pytest.raises(NotFound):
        await api.get(path)


async def test_a_finalizer_holds_an_object_until_it_is_taken_off(api, namespace):
    name = f"kip-{uuid4()}"
    spec = {"nodeName": NODE, "podName": "web", "podNamespace": "d", "podUID": name[4:]}
    body = {
        "apiVersion": "kip.elotl.co/v1beta1",
        "kind": "Cell",
        "metadata": {"name": name, "finalizers": ["kip.elotl.co/instance"]},
        "spec": spec,
    }
    await when_available(lambda: api.create(CELLS, body), SystemClock(), what="cells")
    await api.delete(f"{CELLS}/{name}")
    held = await api.get(f"{CELLS}/{name}")
    assert held["metadata"]["deletionTimestamp"]
    await api.patch(f"{CELLS}/{name}/status", {"status": {"phase": "Terminating"}})
    await api.patch(f"{CELLS}/{name}", {"metadata": {"finalizers": []}})
    with pytest.raises(NotFound):
        await api.get(f"{CELLS}/{name}")


async def test_lists_are_selected_by_field_and_label(api, namespace):
    await a_pod(api, namespace, "one", labels={"app": "a"})
    await a_pod(api, namespace, "two", labels={"app": "b"})

    async def names(**params: str) -> set[str]:
        return {p["metadata"]["name"] for p in (await list_all(api, f"{namespace}/pods", params)).items}

    assert await names() == {"one", "two"}
    assert await names(labelSelector="app=b") == {"two"}
    assert await names(fieldSelector="metadata.name=one") == {"one"}
    assert await names(fieldSelector=f"spec.nodeName={NODE}") == {"one", "two"}
    assert await names(fieldSelector="spec.nodeName=other") == set()


async def test_a_watch_tells_each_change_once_and_the_last_state_of_what_goes(api, namespace):
    told: list[tuple[str, str]] = []
    listed = asyncio.Event()

    async def watch() -> None:
        async for news in follow(api, f"{namespace}/pods", {"labelSelector": "app=a"}, SystemClock()):
            match news:
                case Listed():
                    listed.set()
                case Changed(kind, obj) if kind != "BOOKMARK":
                    told.append((kind, obj["metadata"]["name"]))

    task = asyncio.create_task(watch())
    await asyncio.wait_for(listed.wait(), 20)
    await a_pod(api, namespace, "one", labels={"app": "a"})
    await a_pod(api, namespace, "two", labels={"app": "b"})
    await api.patch(f"{namespace}/pods/one/status", {"status": {"reason": "r"}})
    await api.delete(f"{namespace}/pods/one", {"gracePeriodSeconds": 0})
    for _ in range(400):
        if ("DELETED", "one") in told:
            break
        await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert told == [("ADDED", "one"), ("MODIFIED", "one"), ("MODIFIED", "one"), ("DELETED", "one")]
