"""The probes, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import aiohttp
import pytest

from kip.observe.metrics import Metrics
from kip.observe.probes import STALL_S, Probes


class FakeClock:
    """Stands still until it is set; sleeping lasts for ever."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def probes(metrics: Metrics, clock: FakeClock) -> Probes:
    return Probes(metrics, clock=clock)


@pytest.fixture
async def url(probes: Probes) -> AsyncIterator[str]:
    async with probes.serve("127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}"


async def get(url: str, **headers: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        return response.status, await response.text()


async def test_a_healthy_process(url: str) -> None:
    assert await get(f"{url}/healthz") == (200, "[+]event loop ok\nok\n")
    assert await get(f"{url}/readyz") == (200, "ok\n")


async def test_an_event_loop_that_was_held_up(url: str, clock: FakeClock) -> None:
    await get(f"{url}/healthz")  # by now the ticker has begun
    clock.seconds += STALL_S + 1
    assert await get(f"{url}/healthz") == (
        503,
        "[-]event loop: no turn for 16 s, expected one every 15 s\nfailed\n",
    )


async def test_the_event_loop_ticks_by_itself(metrics: Metrics) -> None:
    async with Probes(metrics, stall_s=0.5).serve("127.0.0.1", 0) as port:
        # The ticker turns once a second: with its first turn long ago, only a later one can be in time.
        deadline = asyncio.get_running_loop().time() + 5
        seen: list[int] = []
        while asyncio.get_running_loop().time() < deadline:
            status, _ = await get(f"http://127.0.0.1:{port}/healthz")
            seen.append(status)
            if 503 in seen and status == 200:
                return
            await asyncio.sleep(0.05)
    pytest.fail(f"never late and then in time again: {seen}")


async def test_a_named_loop(probes: Probes, url: str, clock: FakeClock) -> None:
    loop = probes.loop("sweep", stall_s=60)
    clock.seconds += 12
    assert (await get(f"{url}/healthz"))[0] == 200
    clock.seconds += 49
    status, text = await get(f"{url}/healthz")
    assert status == 503
    assert "[-]sweep: no turn for 61 s, expected one every 60 s\n" in text
    loop.turn()
    assert "[+]sweep ok\n" in (await get(f"{url}/healthz"))[1]


async def test_readiness_is_not_health(probes: Probes, url: str) -> None:
    trouble: str | None = "pods are not listed yet"
    probes.ready("pods", lambda: trouble)
    assert await get(f"{url}/readyz") == (503, "[-]pods: pods are not listed yet\nfailed\n")
    assert (await get(f"{url}/healthz"))[0] == 200
    trouble = None
    assert await get(f"{url}/readyz") == (200, "[+]pods ok\nok\n")


async def test_a_check_that_breaks_has_failed(probes: Probes, url: str) -> None:
    def broken() -> str | None:
        raise KeyError("pods")

    probes.alive("store", broken)
    status, text = await get(f"{url}/healthz")
    assert status == 503
    assert "[-]store: KeyError: 'pods'\n" in text


def test_two_checks_of_one_name(probes: Probes) -> None:
    probes.ready("pods", lambda: None)
    with pytest.raises(ValueError, match="there is a check 'pods' already"):
        probes.ready("pods", lambda: None)


async def test_metrics(metrics: Metrics, url: str) -> None:
    metrics.reconciled("done")
    status, text = await get(f"{url}/metrics")
    assert status == 200
    assert 'kip_reconciles_total{result="done"} 1.0' in text
    assert "# EOF" not in text
    _, text = await get(f"{url}/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n")


async def test_other_paths(url: str) -> None:
    assert (await get(f"{url}/"))[0] == 404


async def test_a_port_that_is_taken(probes: Probes, url: str, metrics: Metrics) -> None:
    port = int(url.rpartition(":")[2])
    with pytest.raises(OSError, match="address already in use"):
        async with Probes(metrics).serve("127.0.0.1", port):
            pass
