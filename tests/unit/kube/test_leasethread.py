"""The node is kept while the event loop is busy, and not for ever when it hangs."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from kip.kube.errors import Unavailable
from kip.kube.fake import FakeApi
from kip.kube.lease import Timing
from kip.kube.leasethread import lease_thread
from kip.model.clock import SystemClock

TIMING = Timing(duration_s=3, give_up_s=2.0, renew_s=0.05, retry_s=0.05, request_s=1.0)
BUSY_S = 2.5
"""Longer than a Lease is trusted without a renewal."""


class Client(FakeApi):
    """A client that knows in which thread it is used."""

    def __init__(self) -> None:
        super().__init__(clock=SystemClock())
        self.threads: set[str] = set()
        self.closed = False

    async def request(self, *args: Any, **kwargs: Any) -> Any:
        self.threads.add(threading.current_thread().name)
        return await super().request(*args, **kwargs)

    async def close(self) -> None:
        self.closed = True


def holding(client: Client, stalled_s: float):
    async def connect() -> Client:
        return client

    return lease_thread(
        connect, SystemClock(), namespace="kip", identity="one", timing=TIMING, stalled_s=stalled_s
    )


async def test_a_busy_event_loop_keeps_its_node() -> None:
    client = Client()
    async with holding(client, stalled_s=60) as holder:
        assert await holder.acquire(["n-0"]) == "n-0"
        keeping = asyncio.create_task(holder.keep())
        granted = holder.grant()
        await asyncio.sleep(0.2)
        time.sleep(BUSY_S)
        assert holder.holding
        assert granted()
        keeping.cancel()
        await asyncio.wait([keeping])
        await holder.release()
        assert not holder.holding
        assert not granted()
    assert client.threads == {"lease"}
    assert client.closed


async def test_an_event_loop_that_hangs_loses_its_node() -> None:
    async with holding(Client(), stalled_s=0.1) as holder:
        await holder.acquire(["n-0"])
        keeping = asyncio.create_task(holder.keep())
        granted = holder.grant()
        await asyncio.sleep(0.2)
        time.sleep(BUSY_S)
        assert not granted()
        assert "does not get round" in await keeping


async def test_what_keeps_the_thread_from_its_work_is_raised() -> None:
    async def connect() -> Client:
        raise Unavailable("no API server")

    with pytest.raises(Unavailable, match="no API server"):
        async with lease_thread(connect, SystemClock(), namespace="kip", identity="one"):
            pass
