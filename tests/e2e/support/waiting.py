"""Waiting on a condition with a deadline; a wait that fails says what was seen."""

from __future__ import annotations

import select
import subprocess
import time
from collections.abc import Callable
from typing import IO, TypeVar

import pytest

Found = TypeVar("Found")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.4  # seconds

#: What a condition may raise while it does not hold yet; anything else is an error of the test.
#: (`[one] = found` raises ValueError, a field that has not been written LookupError.)
NOT_YET = (AssertionError, LookupError, OSError, ValueError, subprocess.TimeoutExpired)


def eventually(
    condition: Callable[[], Found], timeout: float, what: str, explain: Callable[[], str] = str
) -> Found:
    """What the condition returns as soon as that is true; fails the test after `timeout` seconds.

    The condition does not hold while it returns something false or raises one of NOT_YET. The failure tells what it
    returned or raised last, and what `explain` says about the surroundings then.
    """
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while True:
        late = time.monotonic() > deadline  # before the last look: a slow look must not be the only one
        try:
            if found := condition():
                return found
            seen = repr(found)
        except NOT_YET as error:
            seen = f"{type(error).__name__}: {error}"
        if late:
            pytest.fail(f"not within {timeout:g} s: {what}\nseen last: {seen}\n{explain()}", pytrace=True)
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def first_line(stream: IO[str] | None, timeout: float = 20) -> str:
    """The next line of a process. Fails when there is none in `timeout` seconds."""
    assert stream
    ready, _, _ = select.select([stream], [], [], timeout)
    assert ready, f"no line within {timeout:g} s"
    return stream.readline()
