"""Kip's own login to ECR, as the kubelet of a cell sees it: a pull secret that the cluster does not have."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from kip.cellapi.pullsecret import NAME, with_login
from kip.oci.credentials import Credential, from_secrets
from kip.oci.reference import parse

ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
IMAGE = f"{ECR}/team/app:1"
LIST = "/api/v1/pods"
MINE = {"fieldSelector": "spec.nodeName=kip-provider-0"}
SECRET = f"/api/v1/namespaces/shop/secrets/{NAME}"
EVENTS = "/api/v1/namespaces/shop/events"


@pytest.fixture
def at_ecr(world: Any, running: Any, make_pod: Any) -> Callable[..., Any]:
    """Puts the cell's pod with an image at ECR, and more of its spec."""

    def put(version: str = "40", image: str = IMAGE, **spec: Any) -> Any:
        pod = make_pod(version=version, spec={"containers": [{"name": "main", "image": image}], **spec})
        world.pods.put(pod)
        return pod

    return put


def named(pod: Any) -> list[str]:
    return [entry["name"] for entry in pod["spec"].get("imagePullSecrets", ())]


async def listed(kubelet: Any) -> Any:
    (pod,) = (await kubelet.get(LIST, **MINE)).json["items"]
    return pod


async def test_a_pod_with_an_image_at_ecr_gets_the_login(running: Any, world: Any, at_ecr: Any) -> None:
    at_ecr()
    _, kubelet = running
    assert named(await listed(kubelet)) == [NAME]
    secret = (await kubelet.get(SECRET, resourceVersion="0")).json
    assert (secret["kind"], secret["type"]) == ("Secret", "kubernetes.io/dockerconfigjson")
    assert await from_secrets([secret]).of(parse(IMAGE).repository) == (Credential("AWS", "token-1"),)
    assert world.upstream.asked == [], "the cluster hears nothing of it"


async def test_it_is_for_the_registries_that_the_pod_s_images_name_and_no_others(
    running: Any, at_ecr: Any
) -> None:
    at_ecr()
    secret = (await running[1].get(SECRET)).json
    keyring = from_secrets([secret])
    for other in (
        "210987654321.dkr.ecr.us-east-1.amazonaws.com",
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
    ):
        assert keyring.lookup(parse(f"{other}/team/app:1").repository) == ()
    assert keyring.lookup(parse("a.b.c.d.amazonaws.com/team/app:1").repository) == ()


@pytest.mark.parametrize(
    "own", [ECR, f"{ECR}/team", "*.dkr.ecr.us-east-1.amazonaws.com", "*.dkr.ecr.*.amazonaws.com"]
)
async def test_the_pod_s_own_logins_are_tried_first_however_they_name_the_registry(
    running: Any, at_ecr: Any, own: str
) -> None:
    at_ecr(imagePullSecrets=[{"name": "own"}])
    _, kubelet = running
    assert named(await listed(kubelet)) == ["own", NAME]
    config = json.dumps({"auths": {own: {"username": "ann", "password": "x"}}}).encode()
    given = {
        "metadata": {"name": "own", "namespace": "shop"},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(config).decode()},
    }
    found = from_secrets([given, (await kubelet.get(SECRET)).json]).lookup(parse(IMAGE).repository)
    assert found == (Credential("ann", "x"), Credential("AWS", "token-1"))


async def test_a_later_question_gets_a_newer_login_of_the_same_secret(running: Any, at_ecr: Any) -> None:
    at_ecr()
    first, second = [(await running[1].get(SECRET)).json for _ in range(2)]
    assert first["data"] != second["data"]
    assert first["metadata"]["uid"] == second["metadata"]["uid"]
    assert int(first["metadata"]["resourceVersion"]) < int(second["metadata"]["resourceVersion"])


async def test_an_open_watch_tells_of_it_when_the_image_changes(
    running: Any, world: Any, at_ecr: Any
) -> None:
    _, kubelet = running
    assert named(await listed(kubelet)) == []
    assert (await kubelet.get(SECRET)).status == 404
    async with kubelet.watch(LIST, **MINE, resourceVersion="30") as watch:
        await watch.next()
        at_ecr("41")
        kind, pod = await watch.next()
        assert (kind, named(pod)) == ("MODIFIED", [NAME])
    assert (await kubelet.get(SECRET)).status == 200


async def test_images_elsewhere_and_before_the_pod_is_shown(world: Any, identity: Any, make_pod: Any) -> None:
    world.pods.replace([make_pod(spec={"containers": [{"name": "main", "image": IMAGE}]})], "30")
    session, kubelet = await world.open(identity)
    assert (await kubelet.get(SECRET)).status == 403
    session.show_pod()
    assert (await kubelet.get(SECRET)).status == 200
    assert (await kubelet.get(SECRET.replace("/shop/", "/bank/"))).status == 403
    world.pods.put(make_pod(version="50", spec={"containers": [{"name": "main", "image": "quay.io/a/b"}]}))
    assert named(await listed(kubelet)) == []
    assert (await kubelet.get(SECRET)).status == 404


@pytest.mark.parametrize(
    "spec",
    [
        {"volumes": [{"name": "v", "secret": {"secretName": NAME}}]},
        {"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": NAME}}]}}]},
        {"imagePullSecrets": [{"name": NAME}]},
        {"ephemeralContainers": [{"name": "d", "envFrom": [{"secretRef": {"name": NAME}}]}]},
    ],
    ids=["volume", "projected", "pull secret", "variables"],
)
async def test_a_pod_that_names_it_by_itself_does_not_get_it(
    running: Any, world: Any, at_ecr: Any, spec: dict[str, Any]
) -> None:
    before = at_ecr(**spec)
    _, kubelet = running
    assert (await listed(kubelet))["spec"] == before["spec"]
    assert (await kubelet.get(SECRET)).status == 404
    assert world.ecr.given == 0


async def test_what_aws_refuses_is_not_in_it_and_is_told_once_a_pull_fails(
    running: Any, world: Any, at_ecr: Any
) -> None:
    at_ecr()
    _, kubelet = running
    world.ecr.refuses = "you may not"
    secret = (await kubelet.get(SECRET)).json
    assert base64.b64decode(secret["data"][".dockerconfigjson"]) == b'{"auths":{}}'
    assert named(await listed(kubelet)) == [NAME], "what the kubelet sees does not depend on AWS"
    pulled = event("Pulled", "Successfully pulled image")
    assert (await kubelet.ask("POST", EVENTS, pulled)).status == 201
    assert world.hooks.missed_logins == [], "it had a login of its own"
    for _ in range(2):
        failed = event("Failed", f'Failed to pull image "{IMAGE}": denied')
        assert (await kubelet.ask("POST", EVENTS, failed)).status == 201
    ((pod, trouble),) = world.hooks.missed_logins
    assert pod == "shop/web"
    assert "you may not" in trouble


async def test_a_failed_pull_with_the_login_is_the_registry_s_word(
    running: Any, world: Any, at_ecr: Any
) -> None:
    at_ecr()
    _, kubelet = running
    await kubelet.get(SECRET)
    await kubelet.ask("POST", EVENTS, event("Failed", f'Failed to pull image "{IMAGE}": not found'))
    assert world.hooks.missed_logins == []


def event(reason: str, message: str) -> dict[str, Any]:
    about = {"kind": "Pod", "namespace": "shop", "name": "web", "uid": "uid-web", "apiVersion": "v1"}
    metadata = {"name": f"web.{reason.lower()}", "namespace": "shop"}
    return {"metadata": metadata, "involvedObject": about, "reason": reason, "message": message}


def test_nothing_is_changed_in_place(make_pod: Any) -> None:
    pod = make_pod(spec={"imagePullSecrets": [{"name": "own"}]})
    assert named(with_login(pod, [ECR])) == ["own", NAME]
    assert named(pod) == ["own"]
    assert with_login(pod, []) is pod
