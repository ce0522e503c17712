"""Which of Kip's logins a pod's images want, and what there is of them in time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kip import config
from kip.cloud.errors import NotAuthorized
from kip.images.lending import Lending, NothingLent, for_pods
from kip.images.logins import EcrCredentials
from kip.oci.credentials import Credential
from kip.oci.reference import Repository

OURS = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
FIPS = "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com"
CHINA = "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn"
DUAL_STACK = "123456789012.dkr-ecr.us-east-1.on.aws"
THEIRS = "210987654321.dkr.ecr.eu-west-1.amazonaws.com"


class Ecr:
    """One login per region."""

    def __init__(self, *, hangs: tuple[str, ...] = (), refuses: tuple[str, ...] = ()) -> None:
        self._hangs = hangs
        self._refuses = refuses

    async def of(self, region: str) -> Any:
        if region in self._hangs:
            await asyncio.Event().wait()
        if region in self._refuses:
            raise NotAuthorized("no", action="GetAuthorizationToken", code="AccessDeniedException")
        return Credential("AWS", region)


def lending(ecr: Ecr | None = None, *, accounts: tuple[str, ...] = ()) -> Lending:
    credentials = EcrCredentials(ecr or Ecr(), accounts=accounts)  # type: ignore[arg-type]
    return Lending(credentials, patience_s=0.05)


def pod(*images: str, **spec: Any) -> dict[str, Any]:
    containers = [{"name": f"c{number}", "image": image} for number, image in enumerate(images)]
    return {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"containers": containers, **spec}}


@pytest.mark.parametrize("host", [OURS, FIPS, CHINA, DUAL_STACK, THEIRS])
def test_registries_of_ecr_in_all_their_spellings(host: str) -> None:
    assert lending().registries(pod(f"{host}/app:1", f"{host}/other@sha256:{'0' * 64}")) == (host,)


@pytest.mark.parametrize(
    "image", ["nginx", "public.ecr.aws/nginx/nginx", f"{OURS}:5000/app", f"{OURS}.test/a", "UPPER", ""]
)
def test_others_get_nothing(image: str) -> None:
    assert lending().registries(pod(image)) == ()


def test_init_containers_ephemeral_ones_and_image_volumes_count_too() -> None:
    more = {
        "initContainers": [{"name": "i", "image": f"{FIPS}/init"}],
        "ephemeralContainers": [{"name": "e", "image": f"{CHINA}/debug"}],
        "volumes": [{"name": "v", "image": {"reference": f"{DUAL_STACK}/data"}}],
    }
    assert set(lending().registries(pod("nginx", **more))) == {FIPS, CHINA, DUAL_STACK}


def test_only_the_configured_accounts() -> None:
    asked = pod(f"{OURS}/app", f"{THEIRS}/app")
    assert lending(accounts=("210987654321",)).registries(asked) == (THEIRS,)


async def test_each_registry_gets_the_login_of_its_region() -> None:
    lent = await lending().of((OURS, FIPS, THEIRS))
    assert {host: login.password for host, login in lent.logins.items()} == {
        OURS: "eu-west-1",
        FIPS: "us-east-1",
        THEIRS: "eu-west-1",
    }
    assert lent.trouble == ""


async def test_who_hangs_or_refuses_does_not_take_the_others_away() -> None:
    ecr = Ecr(hangs=("eu-west-1",), refuses=("cn-north-1",))
    lent = await asyncio.wait_for(lending(ecr).of((OURS, CHINA, FIPS)), 5)
    assert set(lent.logins) == {FIPS}
    assert f"{OURS}: AWS did not answer within 0.05 s" in lent.trouble
    assert f"{CHINA}: no" in lent.trouble
    assert "ecr:GetAuthorizationToken" in lent.trouble


async def test_kip_asks_for_a_pod_as_its_kubelet_does() -> None:
    wanted, asked = config.EcrLogins(accounts=["123456789012"]), pod(f"{OURS}/app", f"{THEIRS}/app")
    credentials, lent = for_pods(Ecr(), wanted)  # type: ignore[arg-type]
    assert lent.registries(asked) == (OURS,)
    assert await credentials.of(Repository(OURS, "app")) == (Credential("AWS", "eu-west-1"),)
    assert await credentials.of(Repository(THEIRS, "app")) == ()
    credentials, lent = for_pods(Ecr(), config.EcrLogins(enabled=False))  # type: ignore[arg-type]
    assert lent.registries(asked) == ()
    assert await credentials.of(Repository(OURS, "app")) == ()


async def test_kip_may_keep_its_logins_to_itself() -> None:
    assert NothingLent().registries(pod(f"{OURS}/app")) == ()
    assert (await NothingLent().of(())).logins == {}
