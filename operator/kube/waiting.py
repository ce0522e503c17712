"""Waiting for an API server that is away for a while."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from kip.kube.errors import Forbidden, Unavailable
from kip.model.clock import Clock

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

# An API server that restarts is away for some seconds, one whose CRDs are new answers 429 for about one.
_RETRY_S = 1.0
# One that has just been started refuses everybody (401, 403) until it has read its roles and its keys; etcd is asked
# for these within a second or two. A refusal that lasts is for a person to mend, who must hear of it.
_REFUSED_S = 20.0


async def when_available(work: Callable[[], Awaitable[Result]], clock: Clock, *, what: str) -> Result:
    """The result of `work`, repeated for as long as the API server cannot serve it; says so once for each reason.

    Raises Forbidden when it has refused for 20 s, and what else `work` raises at once.
    """
    told, refused_since = "", None
    while True:
        try:
            return await work()
        except Unavailable as error:
            refused_since, reason = None, str(error)
        except Forbidden as error:
            refused_since = clock.monotonic() if refused_since is None else refused_since
            if clock.monotonic() - refused_since >= _REFUSED_S:
                raise
            reason = str(error)
        if reason != told:
            told = reason
            log.warning("waiting for the API server", what=what, error=reason)
        await clock.sleep(_RETRY_S)
