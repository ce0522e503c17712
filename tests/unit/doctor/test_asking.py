"""No question hangs, and every error becomes the reason for having no answer."""

from __future__ import annotations

import asyncio

import pytest

from kip.app.cluster import CannotStart
from kip.cloud.errors import CloudError, NotAuthorized, NotFound, Throttled, Unreachable
from kip.doctor.asking import Asking
from kip.doctor.facts import Unanswered
from kip.kube import errors as kube


async def test_an_answer_is_the_answer() -> None:
    async def question() -> int:
        return 42

    assert await Asking(1).ask(question) == 42


async def test_who_never_answers_is_given_up() -> None:
    async def question() -> None:
        await asyncio.Event().wait()

    assert await Asking(0.01).ask(question) == Unanswered("no answer", "no answer within 0.01 s")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NotAuthorized("x", action="DescribeVpcs", code="UnauthorizedOperation"), "denied"),
        (NotFound("no such subnet"), "missing"),
        (Unreachable("nobody there"), "no answer"),
        (Throttled("slow down"), "refused"),
        (CloudError("something new"), "refused"),
        (kube.Forbidden(403, "Forbidden", "x"), "denied"),
        (kube.NotFound(404, "NotFound", "x"), "missing"),
        (kube.Unavailable("x"), "no answer"),
        (CannotStart("x"), "refused"),
        (OSError("x"), "refused"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
async def test_errors_are_reasons(error: Exception, reason: str) -> None:
    async def question() -> None:
        raise error

    found = await Asking(1).ask(question)
    assert isinstance(found, Unanswered)
    assert found.reason == reason
    if reason == "denied" and isinstance(error, NotAuthorized):
        assert found.permission == "ec2:DescribeVpcs"


async def test_a_mistake_of_our_own_is_no_answer_of_anybodys() -> None:
    async def question() -> None:
        raise AssertionError

    with pytest.raises(AssertionError):
        await Asking(1).ask(question)
