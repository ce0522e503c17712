"""From a pod's creation to EC2's receiving RunInstances. Nothing is booted meanwhile: instances stay pending."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tests.bench.lab import FOR_EVER_S, Lab

from kip.local.aws.throttle import REQUESTS

_BETWEEN_S = 1.05 / REQUESTS["RunInstances"].per_second


@dataclass(frozen=True)
class Launches:
    """Milliseconds; what came together, as one burst."""

    single_ms: list[float]
    burst_pods: int
    burst_last_ms: float
    """Until all instances of the burst were asked for."""
    burst_calls: int


async def measure(lab: Lab, *, pods: int, burst: int) -> Launches:
    """One pod after the other, then `burst` pods at once."""
    await lab.boot_delay(FOR_EVER_S)
    try:
        single = [await _one(lab, f"one-{number}") for number in range(pods)]
        last, calls = await _many(lab, [f"burst-{number}" for number in range(burst)])
    finally:
        await lab.boot_delay(0)
    return Launches(single, burst, last, calls)


async def _one(lab: Lab, name: str) -> float:
    """Takes as long as EC2 takes to admit another call: one that comes sooner has to wait, and that is not measured here."""
    await lab.forget_calls()
    sent = await lab.create(name)
    [received] = await _received(lab, instances=1)
    await lab.delete(name)
    await asyncio.sleep(max(0.0, sent + _BETWEEN_S - lab.now()))
    return (received - sent) * 1000


async def _many(lab: Lab, names: list[str]) -> tuple[float, int]:
    await lab.forget_calls()
    sent = await asyncio.gather(*(lab.create(name) for name in names))
    received = await _received(lab, instances=len(names))
    await lab.delete(*names)
    return (max(received) - min(sent)) * 1000, len(received)


async def _received(lab: Lab, *, instances: int) -> list[float]:
    """When the calls came in that asked for so many instances in all."""

    async def missing() -> str | None:
        asked = sum(call["count"] for call in await lab.calls("RunInstances"))
        return None if asked >= instances else f"{asked} of {instances} instances were asked for"

    await lab.until(missing, "RunInstances")
    return [call["time"] for call in await lab.calls("RunInstances")]
