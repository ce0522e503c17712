"""Waiting for AWS: asking again, with a deadline, and telling what has changed meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace
from typing import TypeVar

from kip.cloud.errors import CloudError, Throttled, Unreachable
from kip.efs.plan import Step
from kip.model.clock import Clock

# Between two looks: what takes a moment is seen soon, and what takes minutes is not asked for all the time.
_FIRST_S, _LONGEST_S = 0.5, 5.0
# A state that lasts is told again, so that people see that somebody still looks.
_TELL_AGAIN_S = 30.0
# EC2 and EFS learn of each other's new things some seconds later.
_KNOWN_LATER_S = 30.0
_KNOWN_LATER = frozenset(
    (
        "InvalidGroup.NotFound",
        "SecurityGroupNotFound",
        "FileSystemNotFound",
        "IncorrectFileSystemLifeCycleState",
        "IncorrectMountTargetState",
    )
)

Answer = TypeVar("Answer")
States = Collection[tuple[str, str]]
"""What is waited for, and its state."""


class Unfinished(Exception):
    """Something did not come, or not go; the text says what was seen and what to do."""


@dataclass
class Outcome:
    """What was done and what was not."""

    done: list[Step] = field(default_factory=list)
    failed: list[tuple[Step, str]] = field(default_factory=list)
    skipped: list[tuple[Step, str]] = field(default_factory=list)
    """Left out with good reason: the volume is complete without."""


class Waiting:
    """Asks AWS until something is so."""

    def __init__(self, clock: Clock, *, tell: Callable[[str], None], timeout_s: float) -> None:
        """`tell` gets a line for each state that something comes into."""
        self._clock = clock
        self._tell = tell
        self._timeout_s = timeout_s

    async def until(self, look: Callable[[], Awaitable[States]]) -> None:
        """Return when `look` finds nothing more to wait for.

        Raises:
            Unfinished: it still does after `timeout_s`.
            CloudError: of `look`; one that passes is waited out.
        """
        began = told_at = self._clock.monotonic()
        told, pause = dict[str, str](), _FIRST_S
        while True:
            now = self._clock.monotonic()
            try:
                waited_for = dict(await look())
            except (Throttled, Unreachable) as error:
                if now - began >= self._timeout_s:
                    raise
                waited_for = {**told, "AWS": error.summary}
            if not waited_for:
                return
            again = now - told_at >= _TELL_AGAIN_S
            for what, state in waited_for.items():
                if again or told.get(what) != state:
                    self._tell(f"{what}  {state} …")
                    told_at = now
            told = waited_for
            if now - began >= self._timeout_s:
                states = ", ".join(f"{what} is {state}" for what, state in waited_for.items())
                raise Unfinished(f"not within {self._timeout_s:g} s: {states}; run again to go on")
            await self._clock.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_S)

    async def patiently(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer of a call that may be repeated: AWS may not yet know what was just made, or be out of reach."""
        ends, pause = self._clock.monotonic() + min(_KNOWN_LATER_S, self._timeout_s), _FIRST_S
        while True:
            try:
                return await call()
            except CloudError as error:
                passes = error.code in _KNOWN_LATER or isinstance(error, (Throttled, Unreachable))
                if not passes or self._clock.monotonic() >= ends:
                    raise
            await self._clock.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_S)


def shown(step: Step, id_: str = "") -> str:
    """A step's thing for people, with its id when that is known."""
    return "  ".join(filter(None, (step.kind, step.name, id_ or step.id)))


def at(step: Step, id_: str, state: str) -> Step:
    """The step, with what its thing has become."""
    return replace(step, id=id_ or step.id, state=state or step.state)


def reason(error: Exception) -> str:
    """An error for people, with what can be done about it."""
    return error.summary if isinstance(error, CloudError) else str(error)
