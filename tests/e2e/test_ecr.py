"""Private images at ECR: a real kubelet pulls them with Kip's own login, of which the cluster and the pod know nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.images import push
from support.manifests import Object, pod
from support.world import E2eWorld, condition, restarts
from tests.unit.images.layers import file, tar_of

from kip.cellapi.pullsecret import NAME

pytestmark = pytest.mark.e2e

_HERE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/team"
_THERE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team"
# What moto gives for a token, whose end is long past: so it is asked for anew each time.
_LOGIN = {"username": "AWS", "password": "123456789012-auth-token", "scheme": "basic"}


@pytest.fixture(autouse=True)
def private(world: E2eWorld) -> Iterator[Path]:
    """The registries want ECR's login, as ECR's own do by the scheme basic."""
    accounts = world.world.state / "registry/accounts.json"
    accounts.write_text(json.dumps({_HERE: _LOGIN, _THERE: _LOGIN}))
    yield accounts
    accounts.unlink()


def test_a_pod_pulls_from_ecr_and_again_for_each_restart(world: E2eWorld, namespace: str) -> None:
    image = f"{_HERE}/app:1"
    push(world.world, image, tar_of(file("secret", b"of the team")))
    world.aws.forget_calls()
    main = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "Always",
        "command": ["sh", "-c", "[ -e /kept/once ] && exec sleep 1000; touch /kept/once; sleep 3; exit 1"],
        "volumeMounts": [{"name": "kept", "mountPath": "/kept"}],
    }
    world.run(pod("team", namespace, main, volumes=[{"name": "kept", "emptyDir": {}}]))
    assert world.exec("team", namespace, "cat", "/secret") == "of the team"
    first = len(world.aws.calls("GetAuthorizationToken"))
    assert first > 0

    def again() -> Object:
        found = world.existing("pods", "team", namespace)
        assert restarts(found) == {"main": 1}
        assert condition(found, "Ready") == "True"
        return found

    found = world.eventually(again, 60, "the image is pulled for the second container too", namespace)
    assert len(world.aws.calls("GetAuthorizationToken")) > first, "with a login of its own"
    assert "imagePullSecrets" not in found["spec"]
    assert NAME not in json.dumps(world.list("secrets", namespace))
    assert NAME not in json.dumps(world.events(namespace, "team"))


def test_a_role_that_may_not_is_told_of_where_the_pull_fails(world: E2eWorld, namespace: str) -> None:
    image = f"{_THERE}/app:1"
    push(world.world, image, tar_of(file("secret", b"of the team")))
    world.aws.fail(
        "GetAuthorizationToken",
        error="AccessDeniedException",
        message="User: arn:aws:iam::1:role/kip is not authorized to perform: ecr:GetAuthorizationToken",
        count=None,
    )
    world.apply(pod("team", namespace, {"name": "main", "image": image, "command": ["sleep", "1000"]}))
    said = world.told(namespace, "team", "NoRegistryLogin", 60)
    assert _THERE.partition("/")[0] in said
    assert "ecr:GetAuthorizationToken" in said
    assert len([e for e in world.events(namespace, "team") if e["reason"] == "NoRegistryLogin"]) == 1
