"""Is AWS there? One cheap call now and then decides whether the node calls itself ready."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from kip.cloud.errors import CloudError, Unreachable
from kip.model.clock import Clock
from kip.node.object import HEALTHY, Health

log = structlog.get_logger(__name__)

# A node that is not ready for 50 s is tainted, and for 5 minutes loses its pods, so one lost packet must not count: three
# failures in a row, seconds apart. The first Kip asks every 59 s; a person who looks wants to see it earlier.
_ASK_S = 20.0
_ASK_AGAIN_S = 3.0
_FAILURES = 3
# The SDK's own repetitions can take more than a minute where packets go into the void.
_PATIENCE_S = 10.0


class Pinger(Protocol):
    async def ping(self) -> None:
        """One cheap call; raises CloudError."""
        ...


class CloudHealth:
    """Asks, remembers, and tells when the answer changes."""

    def __init__(self, cloud: Pinger, clock: Clock, *, changed: Callable[[], None]) -> None:
        self._cloud = cloud
        self._clock = clock
        self._changed = changed
        self._failures = 0
        self.health: Health = HEALTHY

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            await self.ask()
            await self._clock.sleep(_ASK_AGAIN_S if self._failures else _ASK_S)

    async def ask(self) -> Health:
        """Ask once; the health as it is now known."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._cloud.ping()
        except CloudError as error:
            self._failed(error)
        except TimeoutError:
            self._failed(Unreachable(f"no answer within {_PATIENCE_S:g} s"))
        else:
            self._failures = 0
            self._set(HEALTHY)
        return self.health

    def _failed(self, error: CloudError) -> None:
        self._failures += 1
        if self._failures >= _FAILURES:
            self._set(Health(ready=False, reason=error.reason, message=f"AWS cannot be used: {error}"))

    def _set(self, health: Health) -> None:
        if health.ready != self.health.ready or health.reason != self.health.reason:
            log.warning(
                "cloud health changed", ready=health.ready, reason=health.reason, message=health.message
            )
            self.health = health
            self._changed()
