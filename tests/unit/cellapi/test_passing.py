"""What a pod refers to, and what it does not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kip.cellapi.upstream import Upstream
from kip.cellapi.volumes import secrets_of
from kip.pods.references import Reference

SHOP = "/api/v1/namespaces/shop"
TOKEN = f"{SHOP}/serviceaccounts/seller/token"
DISK = f"{SHOP}/persistentvolumeclaims/disk"
VOLUME = "/api/v1/persistentvolumes/pv-1"
STAGE_SECRET = "/api/v1/namespaces/storage/secrets/mount-key"


def token_request(**changes: Any) -> dict[str, Any]:
    bound = {"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": "uid-web"}
    spec = {
        "audiences": ["sts.amazonaws.com"],
        "expirationSeconds": 86400,
        "boundObjectRef": bound,
        **changes,
    }
    return {"metadata": {"creationTimestamp": None}, "spec": spec, "status": {"token": ""}}


def volume(namespace: str = "shop", claim: str = "disk") -> dict[str, Any]:
    return {
        "metadata": {"name": "pv-1"},
        "spec": {
            "claimRef": {"namespace": namespace, "name": claim},
            "csi": {"nodeStageSecretRef": {"name": "mount-key", "namespace": "storage"}},
        },
    }


async def test_references_are_read_as_the_node(running: Any, world: Any) -> None:
    _, kubelet = running
    world.upstream.objects[f"{SHOP}/secrets/prices"] = {"data": {"apple": "MQ=="}}
    answer = await kubelet.get(f"{SHOP}/secrets/prices", resourceVersion="0")
    assert answer.json == {"data": {"apple": "MQ=="}}
    asked = world.upstream.asked[-1]
    assert asked.params == {"resourceVersion": "0"}
    assert asked.impersonate.user == "system:node:kip-provider-0"


async def test_before_the_pod_is_shown_it_refers_to_nothing(world: Any, identity: Any, make_pod: Any) -> None:
    world.pods.replace([make_pod()], "30")
    session, kubelet = await world.open(identity)
    world.upstream.objects[f"{SHOP}/secrets/prices"] = {}
    assert (await kubelet.get(f"{SHOP}/secrets/prices")).status == 403
    session.show_pod()
    assert (await kubelet.get(f"{SHOP}/secrets/prices")).status == 200


async def test_unknown_pods_are_503(world: Any, identity: Any) -> None:
    world.pods.synced = False
    _, kubelet = await world.open(identity, pod_shown=True)
    assert (await kubelet.get(f"{SHOP}/secrets/prices")).status == 503


async def test_when_the_pod_is_gone_so_is_its_right(running: Any, world: Any, make_pod: Any) -> None:
    world.pods.remove(make_pod(version="50"))
    assert (await running[1].get(f"{SHOP}/secrets/prices")).status == 403


async def test_a_new_reference_counts_at_once(running: Any, world: Any, make_pod: Any) -> None:
    _, kubelet = running
    world.upstream.objects[f"{SHOP}/configmaps/debug"] = {}
    assert (await kubelet.get(f"{SHOP}/configmaps/debug")).status == 403
    debugger = {"name": "debugger", "envFrom": [{"configMapRef": {"name": "debug"}}]}
    world.pods.put(make_pod(version="50", spec={"ephemeralContainers": [debugger]}))
    assert (await kubelet.get(f"{SHOP}/configmaps/debug")).status == 200


async def test_a_token_for_the_pod(running: Any, world: Any) -> None:
    answer = await running[1].ask("POST", TOKEN, token_request())
    assert answer.status == 201
    assert world.upstream.asked[-1].body == token_request()


@pytest.mark.parametrize(
    "bound",
    [
        None,
        {},
        {"kind": "Pod", "apiVersion": "v1", "name": "web"},
        {"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": "uid-next"},
        {"kind": "Pod", "apiVersion": "v1", "name": "db", "uid": "uid-web"},
        {"kind": "Secret", "apiVersion": "v1", "name": "web", "uid": "uid-web"},
        {"kind": "Node", "apiVersion": "v1", "name": "kip-provider-0", "uid": "uid-node"},
    ],
)
async def test_a_token_bound_to_anything_else_is_refused(running: Any, world: Any, bound: Any) -> None:
    assert (await running[1].ask("POST", TOKEN, token_request(boundObjectRef=bound))).status == 403
    assert world.upstream.asked == []


async def test_a_token_of_another_account_is_refused(running: Any, world: Any) -> None:
    other = f"{SHOP}/serviceaccounts/admin/token"
    assert (await running[1].ask("POST", other, token_request())).status == 403
    assert (await running[1].ask("POST", TOKEN, {"spec": "x"})).status == 403
    assert world.upstream.asked == []


async def test_a_volume_is_read_if_it_is_the_claims(running: Any, world: Any) -> None:
    _, kubelet = running
    world.upstream.objects[VOLUME] = volume()
    assert (await kubelet.get(VOLUME)).json == volume()
    for other in (volume("bank"), volume(claim="other"), {"spec": {}}, {}):
        world.upstream.objects[VOLUME] = other
        answer = await kubelet.get(VOLUME)
        assert (answer.status, "mount-key" in answer.text) == (403, False)


async def test_a_claims_status_is_patched(running: Any, world: Any) -> None:
    _, kubelet = running
    world.upstream.objects[f"{DISK}/status"] = {}
    patch = {"metadata": {"resourceVersion": "5"}, "status": {"capacity": {"storage": "2Gi"}}}
    assert (await kubelet.patch(f"{DISK}/status", patch)).status == 200
    assert world.upstream.asked[-1].body == patch
    for bad in ({"spec": {}}, {"metadata": {"labels": {}}}, {"metadata": []}):
        assert (await kubelet.patch(f"{DISK}/status", bad)).status == 403
    assert (await kubelet.ask("PATCH", f"{DISK}/status", patch)).status == 400
    assert len(world.upstream.asked) == 1


async def test_a_volumes_secret_is_read_through_the_claim(running: Any, world: Any) -> None:
    _, kubelet = running

    async def asked_some_time_later() -> int:
        world.clock.seconds += 10
        return int((await kubelet.get(STAGE_SECRET)).status)

    world.upstream.objects[STAGE_SECRET] = {"data": {}}
    assert await asked_some_time_later() == 403, "the claim is not there"
    world.upstream.objects[DISK] = {"spec": {}}
    assert await asked_some_time_later() == 403, "the claim is not bound"
    world.upstream.objects[DISK] = {"spec": {"volumeName": "pv-1"}}
    world.upstream.objects[VOLUME] = volume(claim="other")
    assert await asked_some_time_later() == 403, "the volume belongs to another claim"
    world.upstream.objects[VOLUME] = volume()
    assert await asked_some_time_later() == 200
    world.upstream.objects[VOLUME] = volume(claim="other")
    assert await asked_some_time_later() == 403, "the volume was given to another claim"


async def test_claims_and_volumes_are_looked_up_once_in_a_while(running: Any, world: Any) -> None:
    _, kubelet = running
    world.upstream.objects[DISK] = {"spec": {"volumeName": "pv-1"}}
    world.upstream.objects[VOLUME] = volume()
    world.upstream.objects[STAGE_SECRET] = {"data": {}}
    names = [f"guess-{number}" for number in range(20)] + ["mount-key"]

    async def ask_for_all() -> list[int]:
        paths = (f"/api/v1/namespaces/storage/secrets/{name}" for name in names)
        return [answer.status for answer in await asyncio.gather(*map(kubelet.get, paths))]

    for _ in range(2):
        assert await ask_for_all() == [403] * 20 + [200]
    looks = [asked.path for asked in world.upstream.asked if asked.path != STAGE_SECRET]
    assert looks == [DISK, VOLUME]


async def test_a_volume_that_cannot_be_looked_up_is_503(running: Any, world: Any, make_reply: Any) -> None:
    world.upstream.reachable = False
    assert (await running[1].get(STAGE_SECRET)).status == 503


def test_secrets_of_all_kinds_of_volumes() -> None:
    claim = {"claimRef": {"namespace": "shop", "name": "disk"}}
    spec = {
        **claim,
        "csi": {
            "nodeStageSecretRef": {"name": "stage", "namespace": "a"},
            "nodePublishSecretRef": {"name": "publish", "namespace": "b"},
            "nodeExpandSecretRef": {"name": "expand", "namespace": "c"},
            "controllerPublishSecretRef": {"name": "controller", "namespace": "d"},
        },
        "rbd": {"secretRef": {"name": "rbd"}},
        "azureFile": {"secretName": "azure", "secretNamespace": "e"},
    }
    assert set(secrets_of({"spec": spec})) == {
        Reference("secrets", "a", "stage"),
        Reference("secrets", "b", "publish"),
        Reference("secrets", "c", "expand"),
        Reference("secrets", "shop", "rbd"),
        Reference("secrets", "e", "azure"),
    }
    assert list(secrets_of({})) == []


async def test_without_impersonation_requests_are_the_operators(world: Any, make_pod: Any) -> None:
    await Upstream(world.upstream, impersonate=False).send("kip-provider-0", "GET", "/api/v1/namespaces/shop")
    assert world.upstream.asked[-1].impersonate is None
