"""Two processes and one Lease on a real API server, with the operator's own rights and the real timing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest

from kip.kube.client import ApiClient, Reply
from kip.kube.errors import NotFound, Unavailable
from kip.kube.lease import LeaseHolder
from kip.model.clock import SystemClock

pytestmark = pytest.mark.integration

NAMESPACE = "kip"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"


class Cut(ApiClient):
    """A way to the API server that can be cut."""

    def __init__(self, inner: ApiClient) -> None:
        self._inner = inner
        self.cut = False

    async def request(self, method: str, path: str, **options: Any) -> Reply:
        if self.cut:
            raise Unavailable("cut off")
        return await self._inner.request(method, path, **options)


@pytest.fixture
async def client(control_plane: Any) -> AsyncIterator[ApiClient]:
    made = await ApiClient.connect(control_plane.world.operator_kubeconfig)
    yield made
    await made.close()


@pytest.fixture
async def name(client: ApiClient) -> AsyncIterator[str]:
    made = f"test-{uuid4().hex[:8]}"
    yield made
    with suppress(NotFound):
        await client.replace(f"{LEASES}/{made}", await client.get(f"{LEASES}/{made}"))


def holder(client: ApiClient, identity: str) -> LeaseHolder:
    return LeaseHolder(client, SystemClock(), namespace=NAMESPACE, identity=identity)


async def test_a_holder_that_is_cut_off_stops_in_time_and_the_spare_takes_over(client, name):
    mine = Cut(client)
    one, two = holder(mine, "one"), holder(client, "two")
    await one.acquire([name])
    keeping = asyncio.create_task(one.keep())
    waiting = asyncio.create_task(two.acquire([name]))
    await asyncio.sleep(5)
    assert not waiting.done()
    mine.cut = True
    began = time.monotonic()
    await asyncio.wait_for(keeping, 30)
    stopped = time.monotonic()
    assert not one.holding
    assert not waiting.done()
    await asyncio.wait_for(waiting, 30)
    taken = time.monotonic()
    assert taken - stopped >= 0.5, "time to let go"
    assert taken - began <= two.timing.duration_s + two.timing.renew_s + two.timing.retry_s + 5
    await two.release()


async def test_a_node_given_up_is_taken_at_once(client, name):
    one, two = holder(client, "one"), holder(client, "two")
    await one.acquire([name])
    waiting = asyncio.create_task(two.acquire([name]))
    await asyncio.sleep(1.5)
    began = time.monotonic()
    await one.release()
    await asyncio.wait_for(waiting, 20)
    assert time.monotonic() - began < two.timing.duration_s - 2, "it did not have to run out"
    spec = (await client.get(f"{LEASES}/{name}"))["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("two", 1)
    await two.release()


async def test_of_many_who_want_it_one_gets_it(client, name):
    holders = [holder(client, f"p-{number}") for number in range(8)]
    waiting = [asyncio.create_task(h.acquire([name])) for h in holders]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=20)
    await asyncio.sleep(2)
    assert sum(task.done() for task in waiting) == 1
    assert sum(h.holding for h in holders) == 1
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    for one in holders:
        await one.release()
