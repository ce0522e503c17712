"""Asking without ever hanging: every question has its time, and every error becomes the reason why there is no answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from kip.app.cluster import CannotStart
from kip.cloud.errors import CloudError, NotAuthorized, NotFound, Unreachable
from kip.doctor.facts import Fact, Unanswered
from kip.kube import errors as kube

Value = TypeVar("Value")


class Asking:
    """Asks, with a limit in seconds for each question."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s

    async def ask(self, question: Callable[[], Awaitable[Value]]) -> Fact[Value]:
        """The answer, or why there is none; raises nothing that a cloud, a cluster or a network can be blamed for."""
        try:
            async with asyncio.timeout(self.timeout_s):
                return await question()
        except TimeoutError:
            return Unanswered("no answer", f"no answer within {self.timeout_s:g} s")
        except (CloudError, kube.KubeError, CannotStart, OSError) as error:
            return unanswered(error)


def unanswered(error: Exception) -> Unanswered:
    """An error as the reason for having no answer."""
    match error:
        case NotAuthorized():
            return Unanswered("denied", error.summary, error.permission, error.code)
        case NotFound():
            return Unanswered("missing", error.summary, code=error.code)
        case Unreachable():
            return Unanswered("no answer", error.summary, code=error.code)
        case CloudError():
            return Unanswered("refused", error.summary, code=error.code)
        case kube.Forbidden():
            return Unanswered("denied", str(error))
        case kube.NotFound():
            return Unanswered("missing", str(error))
        case kube.Unavailable():
            return Unanswered("no answer", str(error))
    return Unanswered("refused", str(error) or type(error).__name__)
