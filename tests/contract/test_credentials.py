"""Kip becomes whoever it is meant to be, by each of the ways in which a pod on EKS gets credentials."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from kip.cloud.errors import NotAuthorized, Unreachable
from kip.cloud.sdk import SdkSettings, Session

ROLE = "arn:aws:iam::123456789012:role/kip"
TOKEN = "a token of the service account"


@pytest.fixture(autouse=True)
def _sts(monkeypatch: pytest.MonkeyPatch, local_aws: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", local_aws)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


def session(local_aws: str, **settings: Any) -> Session:
    return Session(SdkSettings(region="us-east-1", endpoint_url=local_aws, max_attempts=1, **settings))


async def caller(asking: Session) -> str:
    """Who EC2 lets in, as STS names them."""
    async with asking.ec2() as ec2:
        await ec2.describe_availability_zones()
    arn: str = (await asking.account().get_caller_identity())["Arn"]
    return arn


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    return path


async def test_a_role_of_the_service_account(
    local_aws: str, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ROLE_SESSION_NAME", "kip-1")
    asking = session(local_aws)
    assert await caller(asking) == "arn:aws:sts::123456789012:assumed-role/kip/kip-1"
    assert await asking.credentials() == "assume-role-with-web-identity"


async def test_a_role_that_may_not_be_assumed_is_told(
    local_aws: str, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token.with_name("not-mounted")))
    with pytest.raises((NotAuthorized, Unreachable), match="not-mounted"):
        await caller(session(local_aws))


@pytest.fixture
async def agent(local_aws: str) -> AsyncIterator[tuple[str, list[str]]]:
    """The agent of EKS Pod Identity, as far as an SDK talks to it: its URL, and the tokens that were shown to it.

    The credentials are of a role that the local STS has given out.
    """
    shown: list[str] = []

    async def credentials(request: web.Request) -> web.Response:
        shown.append(request.headers.get("Authorization", ""))
        if shown[-1] != TOKEN:
            return web.Response(status=401)
        keys = SdkSettings(region="us-east-1", access_key_id="a", secret_access_key="b")
        async with Session(keys)._client("sts") as sts:
            given = (await sts.assume_role(RoleArn=ROLE, RoleSessionName="eks-blue-kip-0"))["Credentials"]
        answer = {
            "AccessKeyId": given["AccessKeyId"],
            "SecretAccessKey": given["SecretAccessKey"],
            "Token": given["SessionToken"],
            "Expiration": (datetime.now(UTC) + timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return web.Response(text=json.dumps(answer), content_type="application/json")

    app = web.Application()
    app.router.add_get("/v1/credentials", credentials)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}/v1/credentials", shown
    await runner.cleanup()


async def test_eks_pod_identity(
    local_aws: str, agent: tuple[str, list[str]], token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, shown = agent
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token))
    asking = session(local_aws)
    assert await caller(asking) == "arn:aws:sts::123456789012:assumed-role/kip/eks-blue-kip-0"
    assert await asking.credentials() == "container-role"
    assert shown == [TOKEN]


async def test_a_pod_that_its_agent_does_not_know_is_told(
    local_aws: str, agent: tuple[str, list[str]], token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token.write_text("another pod's")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent[0])
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token))
    with pytest.raises(NotAuthorized, match="no AWS credentials"):
        await caller(session(local_aws))


async def test_plain_keys_of_the_configuration_or_the_environment(
    local_aws: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured = session(local_aws, access_key_id="AKIAFILE", secret_access_key="x")
    assert (await caller(configured)).startswith("arn:aws:sts::123456789012:user/")
    assert await configured.credentials() == "explicit"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    found = session(local_aws)
    assert (await caller(found)).startswith("arn:aws:sts::123456789012:user/")
    assert await found.credentials() == "env"


async def test_no_credentials_at_all_are_said_to_be_missing(local_aws: str) -> None:
    with pytest.raises(NotAuthorized) as caught:
        await session(local_aws).credentials()
    assert caught.value.code == "NoCredentials"
