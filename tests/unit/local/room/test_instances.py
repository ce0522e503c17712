"""The room's view of the EC2 endpoint's control API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from kip.local.room.instances import FAULT_NO_SSHD, ControlApi, ControlError, read_listing

_RUNNING: dict[str, Any] = {
    "id": "i-1",
    "state": "running",
    "type": "t3.small",
    "vcpus": 2,
    "memory_mib": 2048,
    "private_ip": "10.77.0.11",
    "mac": "02:00:0a:4d:00:0b",
    "subnet_cidr": "10.77.0.0/24",
    "vpc_cidr": "10.77.0.0/24",
    "zone": "us-east-1a",
    "something_new": 1,
}


def test_only_running_instances_need_be_complete():
    answer = {
        "revision": 7,
        "instances": [_RUNNING, {"id": "i-2", "state": "terminated", "private_ip": None}],
    }
    listing = read_listing(msgspec.json.encode(answer))
    assert listing.revision == 7
    assert [instance.id for instance in listing.running] == ["i-1"]


def test_an_answer_of_another_kind_is_refused():
    with pytest.raises(msgspec.MsgspecError):
        read_listing(b'{"revision": 1, "instances": [{"state": "running"}]}')


@pytest.mark.parametrize(("value", "has"), [("true", True), ("True", True), ("false", False), ("", False)])
def test_a_fault_is_a_tag_that_says_true(value, has):
    entry = {**_RUNNING, "tags": {FAULT_NO_SSHD: value}}
    instance = read_listing(msgspec.json.encode({"revision": 1, "instances": [entry]})).running[0]
    assert instance.has_fault(FAULT_NO_SSHD) is has


class Endpoint:
    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.status = 200

    async def instances(self, request: web.Request) -> web.Response:
        self.asked.append(("GET", request.path, dict(request.query)))
        return web.json_response({"revision": 1, "instances": [_RUNNING]}, status=self.status)

    async def state(self, request: web.Request) -> web.Response:
        self.asked.append(("POST", request.path, await request.json()))
        return web.json_response({}, status=self.status)


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
async def control(endpoint: Endpoint) -> AsyncIterator[ControlApi]:
    application = web.Application()
    application.router.add_get("/_kip/instances", endpoint.instances)
    application.router.add_post("/_kip/instances/{id}/state", endpoint.state)
    async with TestServer(application) as server, aiohttp.ClientSession() as session:
        yield ControlApi(session, str(server.make_url("/")))


async def test_it_asks_at_once_and_then_for_what_is_newer(control, endpoint):
    await control.list()
    await control.list(newer_than=1, wait=5)
    assert [query for _, _, query in endpoint.asked] == [{}, {"wait": "5", "revision": "1"}]


async def test_it_reports(control, endpoint):
    await control.report("i-1", "terminated", "why")
    assert endpoint.asked == [("POST", "/_kip/instances/i-1/state", {"state": "terminated", "reason": "why"})]


async def test_a_refusal_is_an_error_that_names_the_request(control, endpoint):
    endpoint.status = 500
    with pytest.raises(ControlError, match=r"GET .*/_kip/instances: 500"):
        await control.list()


async def test_no_endpoint_is_an_error():
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ControlError, match=r"127\.0\.0\.1:9/_kip/instances"):
            await ControlApi(session, "http://127.0.0.1:9").list()
