"""Waiting for an API server that is away for a while."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from kip.kube.errors import Unavailable
from kip.model.clock import Clock

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

# An API server that restarts is away for some seconds, one whose CRDs are new answers 429 for about one.
_RETRY_S = 1.0


async def when_available(work: Callable[[], Awaitable[Result]], clock: Clock, *, what: str) -> Result:
    """The result of `work`, repeated for as long as the API server cannot serve it; says so once for each reason."""
    told = ""
    while True:
        try:
            return await work()
        except Unavailable as error:
            if str(error) != told:
                told = str(error)
                log.warning("waiting for the API server", what=what, error=told)
            await clock.sleep(_RETRY_S)
