"""Time, injected: whoever needs to know or to wait for it takes a `Clock`."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


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


def to_rfc3339(moment: datetime) -> str:
    """A timestamp as Kubernetes' metav1.Time writes it: UTC, whole seconds, a trailing Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_rfc3339_micro(moment: datetime) -> str:
    """A timestamp as metav1.MicroTime writes it (Leases, events): UTC with six decimals."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_rfc3339(text: str) -> datetime:
    """Parse what either of the two writes; raises ValueError for anything else."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
