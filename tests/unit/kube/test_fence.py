"""Writes stop with the Lease, reads do not."""

from __future__ import annotations

import asyncio

import pytest

from kip.kube.client import ApiClient, Reply
from kip.kube.errors import Unavailable
from kip.kube.fence import FencedClient
from kip.kube.slots import Slots

PATH = "/api/v1/namespaces/d/pods"


class Client(FencedClient):
    """Over a client that only counts."""

    def __init__(self, may_write) -> None:
        self._may_write = may_write
        self._slots = Slots(2, few=1)


@pytest.fixture
def sent(monkeypatch):
    calls: list[str] = []

    async def request(self, method: str, path: str, **options) -> Reply:
        calls.append(method)
        return Reply(200, {}, b"{}")

    monkeypatch.setattr(ApiClient, "request", request)
    return calls


async def test_whoever_holds_the_node_writes(sent):
    client = Client(lambda: True)
    await client.create(PATH, {})
    await client.get(PATH)
    assert sent == ["POST", "GET"]


@pytest.mark.parametrize("write", ["create", "replace", "patch", "delete"])
async def test_whoever_lost_it_does_not(sent, write):
    client = Client(lambda: False)
    with pytest.raises(Unavailable, match="does not hold"):
        await getattr(client, write)(PATH, {})
    await client.get(PATH)
    assert sent == ["GET"]


async def test_what_waited_for_its_turn_is_asked_again(sent, monkeypatch):
    """The Lease may be lost between the decision to write and the write."""
    held, gate = True, asyncio.Event()

    async def slow(self, method: str, path: str, **options) -> Reply:
        sent.append(method)
        await gate.wait()
        return Reply(200, {}, b"{}")

    monkeypatch.setattr(ApiClient, "request", slow)
    client = Client(lambda: held)
    writes = [asyncio.create_task(client.create(PATH, {})) for _ in range(3)]
    await asyncio.sleep(0.01)
    assert len(sent) == 2
    held = False
    gate.set()
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(r).__name__ for r in results] == ["dict", "dict", "Unavailable"]
    assert len(sent) == 2


async def test_its_connections_are_not_its_to_close():
    await Client(lambda: True).close()
