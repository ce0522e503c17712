"""Time, injected: whoever needs to know or to wait for it takes a `Clock`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

Result = TypeVar("Result")


class Clock(Protocol):
    """The three questions that code may ask about time."""

    def now(self) -> datetime:
        """The wall clock, in UTC: for timestamps that leave the process."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back: for deadlines within the process."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        ...


class SystemClock:
    """The real time."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def pause(clock: Clock, seconds: float, unless: asyncio.Event) -> None:
    """Return after `seconds`, or as soon as the event is set."""
    passed = asyncio.ensure_future(clock.sleep(seconds))
    called = asyncio.ensure_future(unless.wait())
    try:
        await asyncio.wait((passed, called), return_when=asyncio.FIRST_COMPLETED)
    finally:
        passed.cancel()
        called.cancel()


def to_rfc3339(moment: datetime) -> str:
    """A timestamp as Kubernetes' metav1.Time writes it: UTC, whole seconds, a trailing Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_rfc3339_micro(moment: datetime) -> str:
    """A timestamp as metav1.MicroTime writes it (Leases, events): UTC with six decimals."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_rfc3339(text: str) -> datetime:
    """Parse what either of the two writes; raises ValueError for anything else."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def age(seconds: float) -> str:
    """As kubectl writes it: two units while the first is small."""
    left = int(seconds)
    parts: list[tuple[int, str]] = []
    for unit, size in _UNITS:
        number, left = divmod(left, size)
        if number or (unit == "s" and not parts):
            parts.append((number, unit))
        elif parts:
            break
    first = parts[0][0]
    return "".join(f"{number}{unit}" for number, unit in parts[: 2 if first < 10 else 1])


class ManualClock:
    """Time that moves only when told to: for tests, and for whoever wants to replay something."""

    def __init__(self, start: datetime | None = None) -> None:
        self._start = start or datetime(2026, 1, 1, tzinfo=UTC)
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._elapsed + seconds, woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Let this much time pass, waking sleepers in their order and letting each run before the next."""
        end = self._elapsed + seconds
        await settle()
        while due := [s for s in self._sleepers if s[0] <= end]:
            moment, woken = min(due, key=lambda s: s[0])
            self._sleepers.remove((moment, woken))
            self._elapsed = max(self._elapsed, moment)
            if not woken.done():
                woken.set_result(None)
            await settle()
        self._elapsed = end

    async def finish(self, work: Awaitable[Result]) -> Result:
        """What comes of `work`; time passes while it waits, in steps of a second. Raises what it raises."""
        task = asyncio.ensure_future(work)
        while not task.done():
            await self.advance(1)
        return task.result()


async def settle() -> None:
    """Let every task that can run now run until it waits for something."""
    for _ in range(50):
        await asyncio.sleep(0)
