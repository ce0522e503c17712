"""Waiting on a condition with a deadline; a wait that fails says what was seen last."""

from __future__ import annotations

import time
from collections.abc import Callable

from kip.local.world import WorldError

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.25


class NotReadyError(WorldError):
    """A part did not become ready; the message says what was still missing, and what its log says."""


def until(
    missing: Callable[[], str | None],
    *,
    what: str,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Returns as soon as `missing` returns None; it returns what is still missing otherwise.

    Raises:
        NotReadyError: something was missing for `seconds`.
    """
    deadline = clock() + seconds
    delay = _FIRST_PAUSE
    while (seen := missing()) is not None:
        if clock() >= deadline:
            raise NotReadyError(f"{what}: not ready after {seconds:g} s: {seen}")
        pause(delay)
        delay = min(delay * 1.5, _LONGEST_PAUSE)
