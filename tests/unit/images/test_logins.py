"""As whom images are asked for."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import pytest

from kip.cloud.ecr import EcrLogin
from kip.cloud.errors import NotAuthorized
from kip.images.logins import EcrCredentials, PodLogins
from kip.kube.client import Impersonation, Reply
from kip.kube.errors import Forbidden
from kip.model.clock import ManualClock
from kip.oci.credentials import Credential, CredentialError, Keyring
from kip.oci.reference import Repository

APP = Repository("quay.io", "team/app")
ECR = Repository("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "team/app")
GENERAL = Credential("kip", "role")


class Api:
    """Secrets of a namespace, and who asked for them."""

    def __init__(self) -> None:
        self.secrets: dict[str, Any] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.refuses = False

    async def request(self, method: str, path: str, *, impersonate: Impersonation | None = None) -> Reply:
        self.asked.append((path, impersonate.user if impersonate else None))
        name = path.rpartition("/")[2]
        if self.refuses:
            return Reply(403, {}, b'{"message": "no", "reason": "Forbidden"}')  # type: ignore[arg-type]
        if name not in self.secrets:
            return Reply(404, {}, b'{"message": "none", "reason": "NotFound"}')  # type: ignore[arg-type]
        return Reply(200, {}, json.dumps(self.secrets[name]).encode())  # type: ignore[arg-type]

    def secret(self, name: str, content: bytes) -> None:
        self.secrets[name] = {
            "metadata": {"name": name, "namespace": "shop"},
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": base64.b64encode(content).decode()},
        }


@pytest.fixture
def api() -> Api:
    api = Api()
    api.secret("ann", b'{"auths": {"quay.io/team": {"username": "ann", "password": "x"}}}')
    return api


def logins(api: Api, *, impersonate: bool = True) -> PodLogins:
    general = Keyring([("quay.io", GENERAL)])
    return PodLogins(api, general, impersonate=impersonate)  # type: ignore[arg-type]


def pod(*secrets: str, node: str | None = "kip-provider-0") -> dict[str, Any]:
    named = [{"name": secret} for secret in secrets]
    return {"metadata": {"namespace": "shop"}, "spec": {"nodeName": node, "imagePullSecrets": named}}


async def test_a_pod_asks_with_its_own_secrets_and_then_with_what_all_have(api: Api) -> None:
    found = await (await logins(api).of(pod("ann", "missing"))).of(APP)
    assert found == (Credential("ann", "x"), GENERAL)
    path = "/api/v1/namespaces/shop/secrets/"
    node = "system:node:kip-provider-0"
    assert sorted(api.asked) == [(f"{path}ann", node), (f"{path}missing", node)]


@pytest.mark.parametrize(("impersonate", "node"), [(False, "kip-provider-0"), (True, None)])
async def test_without_a_node_to_act_as_kip_asks_itself(
    api: Api, impersonate: bool, node: str | None
) -> None:
    await logins(api, impersonate=impersonate).of(pod("ann", node=node))
    assert [user for _, user in api.asked] == [None]


async def test_a_secret_that_may_not_be_read(api: Api) -> None:
    api.refuses = True
    with pytest.raises(Forbidden):
        await logins(api).of(pod("ann"))


async def test_a_malformed_secret(api: Api) -> None:
    api.secret("odd", b"hunter2")
    with pytest.raises(CredentialError, match="secret shop/odd"):
        await logins(api).of(pod("odd"))


class Ecr:
    """ECR's logins."""

    def __init__(self) -> None:
        self.refuses = False

    async def of(self, region: str) -> EcrLogin:
        if self.refuses:
            raise NotAuthorized("no", action="GetAuthorizationToken", code="AccessDeniedException")
        return EcrLogin("AWS", region, ManualClock().now() + timedelta(hours=12))


async def test_ecr_is_for_ecr_s_registries_alone() -> None:
    ecr = Ecr()
    credentials = EcrCredentials(ecr)  # type: ignore[arg-type]
    assert await credentials.of(ECR) == (Credential("AWS", "eu-west-1"),)
    assert await credentials.of(APP) == ()
    ecr.refuses = True
    assert await credentials.of(ECR) == (), "what others may pull, the pod's own secrets are for"


async def test_ecr_is_for_the_accounts_that_are_configured() -> None:
    ours = EcrCredentials(Ecr(), accounts=["123456789012"])  # type: ignore[arg-type]
    others = EcrCredentials(Ecr(), accounts=["210987654321"])  # type: ignore[arg-type]
    assert await ours.of(ECR)
    assert await others.of(ECR) == ()
    assert not others.are_for(ECR.registry)
