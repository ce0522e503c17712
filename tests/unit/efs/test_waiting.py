"""Asking again until it is so."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kip.cloud.errors import CloudError, InvalidRequest, NotAuthorized, Throttled, from_code
from kip.efs.waiting import States, Unfinished, Waiting

World = Any


def waiting(world: World, timeout_s: float = 100) -> Waiting:
    return Waiting(world.clock, tell=world.told.append, timeout_s=timeout_s)


def answers(*given: States | Exception) -> Callable[[], Any]:
    """One after the other, and the last one for ever."""
    left: Iterator[States | Exception] = iter(given)
    last = given[-1]

    async def look() -> States:
        answer = next(left, last)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return look


CREATING, DELETING = [("it", "creating")], [("it", "deleting")]


async def test_each_state_is_told_once(world: World) -> None:
    await world.clock.finish(waiting(world).until(answers(CREATING, CREATING, DELETING, DELETING, [])))
    assert world.told == ["it  creating …", "it  deleting …"]


async def test_what_lasts_is_told_again(world: World) -> None:
    with pytest.raises(Unfinished, match="not within 100 s: it is creating; run again"):
        await world.clock.finish(waiting(world).until(answers(CREATING)))
    assert len(world.told) == 4


async def test_it_is_asked_less_and_less_often(world: World) -> None:
    asked: list[float] = []

    async def look() -> States:
        asked.append(world.clock.monotonic())
        return CREATING

    with pytest.raises(Unfinished):
        await world.clock.finish(waiting(world).until(look))
    pauses = [round(after - before, 3) for before, after in itertools.pairwise(asked)]
    assert pauses[0] == 0.5
    assert pauses == sorted(pauses)
    assert pauses[-1] == 5


async def test_what_passes_is_waited_out_and_said(world: World) -> None:
    await world.clock.finish(waiting(world).until(answers(CREATING, Throttled("slow down"), [])))
    assert world.told == ["it  creating …", "AWS  slow down …"]


async def test_what_does_not_pass_is_raised(world: World) -> None:
    with pytest.raises(NotAuthorized):
        await world.clock.finish(waiting(world).until(answers(NotAuthorized("no"))))
    with pytest.raises(Throttled):
        await world.clock.finish(waiting(world, timeout_s=3).until(answers(Throttled("slow down"))))


async def test_a_call_is_repeated_while_aws_does_not_know_what_was_just_made(world: World) -> None:
    unknown = from_code("CreateMountTarget", "SecurityGroupNotFound", "no such group")
    call = answers(unknown, unknown, [("answer", "")])
    assert await world.clock.finish(waiting(world).patiently(call)) == [("answer", "")]
    with pytest.raises(CloudError, match="no such group"):
        await world.clock.finish(waiting(world).patiently(answers(unknown)))
    with pytest.raises(InvalidRequest):
        await world.clock.finish(waiting(world).patiently(answers(InvalidRequest("never"))))
