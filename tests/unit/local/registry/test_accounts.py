"""Private repositories of the local registry."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient

from kip.local.registry import load
from kip.local.registry.accounts import FILE

TEAM = "/v2/team/app/manifests/1?ns=quay.io"
PUBLIC = "/v2/public/app/manifests/1?ns=quay.io"


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.fixture
def private(tmp_path: Path, url: str, named_image: Callable[[str], Path]) -> Callable[[str], None]:
    """Puts a public image and a private one there, whose login is in that way."""

    def write(scheme: str) -> None:
        account = {"username": "ann", "password": "secret", "scheme": scheme}
        (tmp_path / "registry" / FILE).write_text(json.dumps({"quay.io/team/": account}))

    return write


async def test_basic(client: TestClient, private: Callable[[str], None]) -> None:
    private("basic")
    answer = await client.get(TEAM)
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="kip"')
    assert (await client.get(TEAM, headers=basic("ann:wrong"))).status == 401
    assert (await client.get(TEAM, headers={"Authorization": "Basic ?"})).status == 401
    assert (await client.get(TEAM, headers=basic("ann:secret"))).status == 404, (
        "let in; there is no such image"
    )
    assert (await client.get(PUBLIC)).status == 404


async def test_bearer_tokens_are_for_one_repository(
    client: TestClient, private: Callable[[str], None]
) -> None:
    private("bearer")
    challenge = (await client.get(TEAM)).headers["WWW-Authenticate"]
    assert 'service="quay.io",scope="repository:team/app:pull"' in challenge
    scope = {"service": "quay.io", "scope": "repository:team/app:pull"}
    assert (await client.get("/token", params=scope)).status == 401
    assert (await client.get("/token", params=scope, headers=basic("ann:wrong"))).status == 401
    token = (await (await client.get("/token", params=scope, headers=basic("ann:secret"))).json())["token"]
    bearer = {"Authorization": f"Bearer {token}"}
    assert (await client.get(TEAM, headers=bearer)).status == 404
    assert (await client.get(TEAM.replace("app", "other"), headers=bearer)).status == 401


async def test_this_machine_puts_images_there_without_a_login(
    client: TestClient, private: Callable[[str], None], url: str, named_image: Callable[[str], Path]
) -> None:

    private("basic")
    await asyncio.to_thread(load, named_image("quay.io/team/app:1"), url)
    assert (await client.get(TEAM)).status == 401
    assert (await client.get(TEAM, headers=basic("ann:secret"))).status == 200
