"""What an instance can learn about itself, and how it has to ask."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from kip.local.room.imds import MetadataService
from kip.local.room.instances import Instance
from kip.local.room.metadata import look_up, tree

_MAC = "02:00:0a:4d:00:0b"
_TTL = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}


def instance(**changes: Any) -> Instance:
    facts: dict[str, Any] = {
        "id": "i-0abc",
        "state": "running",
        "type": "t3.small",
        "vcpus": 2,
        "memory_mib": 2048,
        "private_ip": "10.77.0.11",
        "secondary_ips": ["10.77.0.12"],
        "mac": _MAC,
        "subnet_cidr": "10.77.0.0/24",
        "vpc_cidr": "10.77.0.0/24",
        "zone": "us-east-1b",
        "launch_index": 3,
        "user_data_b64": base64.b64encode(b"\x1f\x8bbinary").decode(),
        "tags": {"Name": "one", "kip.elotl.co/cell": "x"},
    }
    return Instance(**facts | changes)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("meta-data/instance-id", b"i-0abc"),
        ("meta-data/ami-launch-index", b"3"),
        ("meta-data/local-ipv4", b"10.77.0.11"),
        ("meta-data/mac", _MAC.encode()),
        ("meta-data/network/interfaces/macs/", f"{_MAC}/".encode()),
        (f"meta-data/network/interfaces/macs/{_MAC}/local-ipv4s", b"10.77.0.11\n10.77.0.12"),
        (f"meta-data/network/interfaces/macs/{_MAC}/subnet-ipv4-cidr-block", b"10.77.0.0/24"),
        ("meta-data/placement/availability-zone", b"us-east-1b"),
        ("meta-data/placement/region", b"us-east-1"),
        ("meta-data/iam/security-credentials/", b""),
        ("meta-data/tags/instance", b"Name"),
        ("user-data", b"\x1f\x8bbinary"),
        ("meta-data/instance-id/below", None),
        ("meta-data/nothing", None),
    ],
)
def test_the_tree_is_laid_out_as_on_ec2(path, content):
    assert look_up(tree(instance()), path) == content


def test_without_user_data_there_is_none():
    assert look_up(tree(instance(user_data_b64="")), "user-data") is None


def test_the_identity_document_is_json():
    text = look_up(tree(instance()), "dynamic/instance-identity/document")
    assert text is not None
    assert json.loads(text)["instanceId"] == "i-0abc"


class World:
    """Who asks, as the tests' client always comes from the loopback, and what time it is."""

    def __init__(self) -> None:
        self.asking: Instance | None = instance()
        self.now = 0.0


@pytest.fixture
async def world() -> World:
    return World()


@pytest.fixture
async def client(world: World) -> AsyncIterator[TestClient[Any, Any]]:
    service = MetadataService(
        lambda address: world.asking if address == "127.0.0.1" else None, lambda: world.now
    )
    async with TestClient(TestServer(service.application())) as client:
        yield client


async def token(client: TestClient[Any, Any]) -> dict[str, str]:
    answer = await client.put("/latest/api/token", headers=_TTL)
    assert answer.status == 200
    return {"X-aws-ec2-metadata-token": await answer.text()}


async def test_a_token_opens_the_tree(client):
    answer = await client.get("/latest/meta-data/instance-id", headers=await token(client))
    assert (answer.status, await answer.text()) == (200, "i-0abc")


async def test_older_versions_of_the_tree_are_the_same(client):
    answer = await client.get("/2021-03-23/meta-data/instance-id", headers=await token(client))
    assert await answer.text() == "i-0abc"


async def test_without_a_token_nothing_is_told(client):
    assert (await client.get("/latest/meta-data/instance-id")).status == 401
    made_up = {"X-aws-ec2-metadata-token": "made-up"}
    assert (await client.get("/latest/user-data", headers=made_up)).status == 401


async def test_a_token_ends(client, world):
    headers = await token(client)
    world.now = 59.0
    assert (await client.get("/latest/meta-data/mac", headers=headers)).status == 200
    world.now = 60.0
    assert (await client.get("/latest/meta-data/mac", headers=headers)).status == 401


async def test_a_token_is_good_on_its_own_instance_only(client, world):
    headers = await token(client)
    world.asking = instance(id="i-0other")
    assert (await client.get("/latest/meta-data/mac", headers=headers)).status == 401


@pytest.mark.parametrize("ttl", ["0", "21601", "soon", ""])
async def test_a_token_needs_a_sensible_end(client, ttl):
    headers = {"X-aws-ec2-metadata-token-ttl-seconds": ttl}
    assert (await client.put("/latest/api/token", headers=headers)).status == 400


async def test_a_proxy_gets_no_token(client):
    answer = await client.put("/latest/api/token", headers={**_TTL, "X-Forwarded-For": "1.2.3.4"})
    assert answer.status == 403


async def test_an_unknown_address_is_told_nothing(client, world):
    world.asking = None
    assert (await client.put("/latest/api/token", headers=_TTL)).status == 404


async def test_what_is_not_there_is_not_found(client):
    assert (await client.get("/latest/meta-data/none", headers=await token(client))).status == 404
