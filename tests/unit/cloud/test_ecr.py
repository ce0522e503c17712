"""Logins to ECR: one per region, kept, and given to nobody else's registry."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from kip.cloud.ecr import EcrLogins, EcrRegistry, registry
from kip.cloud.errors import NotAuthorized, Unreachable
from kip.model.clock import ManualClock

HOURS_12 = 12 * 3600.0


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "eu-west-1"),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("123456789012.dkr-ecr.us-east-1.on.aws", "us-east-1"),
        ("public.ecr.aws", None),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com.example.com", None),
        ("x.123456789012.dkr.ecr.eu-west-1.amazonaws.com", None),
        ("12345.dkr.ecr.eu-west-1.amazonaws.com", None),
        ("quay.io", None),
    ],
)
def test_which_registries_are_ecrs(host: str, region: str | None) -> None:
    assert registry(host) == (EcrRegistry("123456789012", region) if region else None)


class Ecr:
    """Gives another token each time."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.asked: list[str] = []
        self.answered: list[str] = []
        self.broken = False
        self.hangs = asyncio.Event()
        """While it is not set."""
        self.hangs.set()

    @asynccontextmanager
    async def open(self, region: str) -> AsyncIterator[Any]:
        self.asked.append(region)
        try:
            yield self
        finally:
            self.answered.append(region)

    async def get_authorization_token(self) -> dict[str, Any]:
        await asyncio.sleep(0)
        await self.hangs.wait()
        if self.broken:
            raise NotAuthorized("no", action="GetAuthorizationToken", code="AccessDeniedException")
        token = base64.b64encode(f"AWS:{len(self.asked)}".encode()).decode()
        until = self.clock.now() + timedelta(seconds=HOURS_12)
        return {"authorizationData": [{"authorizationToken": token, "expiresAt": until}]}


async def test_one_call_for_a_region_however_many_ask() -> None:
    clock = ManualClock()
    ecr = Ecr(clock)
    logins = EcrLogins(ecr.open, clock)
    many = await asyncio.gather(*(logins.of("eu-west-1") for _ in range(5)))
    assert {(login.username, login.password) for login in many} == {("AWS", "1")}
    await logins.of("us-east-1")
    assert ecr.asked == ["eu-west-1", "us-east-1"]


async def test_a_login_is_renewed_in_the_second_half_of_its_life_and_nobody_waits_for_it() -> None:
    clock = ManualClock()
    ecr = Ecr(clock)
    logins = EcrLogins(ecr.open, clock)
    await logins.of("eu-west-1")
    await clock.advance(HOURS_12 / 2 - 60)
    assert (await logins.of("eu-west-1")).password == "1"
    assert len(ecr.asked) == 1
    await clock.advance(120)
    ecr.hangs.clear()
    assert (await logins.of("eu-west-1")).password == "1", "it is good, and the new one is under way"
    ecr.hangs.set()
    await settled(lambda: len(ecr.answered) == 2)
    assert (await logins.of("eu-west-1")).password == "2"


async def test_a_login_outlives_a_refusal_of_the_next_one_but_not_its_end() -> None:
    clock = ManualClock()
    ecr = Ecr(clock)
    logins = EcrLogins(ecr.open, clock)
    await logins.of("eu-west-1")
    ecr.broken = True
    await clock.advance(HOURS_12 - 1000)
    assert (await logins.of("eu-west-1")).password == "1"
    await settled(lambda: len(ecr.answered) == 2)
    assert (await logins.of("eu-west-1")).password == "1"
    await clock.advance(200)
    with pytest.raises(NotAuthorized):
        await logins.of("eu-west-1")


async def test_a_refusal_is_kept_for_a_minute() -> None:
    clock = ManualClock()
    ecr = Ecr(clock)
    logins = EcrLogins(ecr.open, clock)
    ecr.broken = True
    for _ in range(3):
        with pytest.raises(NotAuthorized) as caught:
            await logins.of("eu-west-1")
    assert caught.value.permission == "ecr:GetAuthorizationToken"
    assert len(ecr.asked) == 1
    ecr.broken = False
    await clock.advance(61)
    assert (await logins.of("eu-west-1")).password == "2"


async def test_who_loses_patience_does_not_take_the_answer_from_others() -> None:
    clock = ManualClock()
    ecr = Ecr(clock)
    ecr.hangs.clear()
    logins = EcrLogins(ecr.open, clock)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(logins.of("eu-west-1"), 0.01)
    ecr.hangs.set()
    assert (await logins.of("eu-west-1")).password == "1"
    assert len(ecr.asked) == 1


async def test_made_up_regions_are_forgotten_and_as_many_as_aws_has_are_not() -> None:
    clock = ManualClock()
    ecr = Ecr(clock)
    logins = EcrLogins(ecr.open, clock)
    for number in range(200):
        await logins.of(f"region-{number}")
    assert len(logins._regions) == 64
    for number in range(199, 199 - 64, -1):
        await logins.of(f"region-{number}")
    assert len(ecr.asked) == 200


async def test_closing_ends_what_is_under_way() -> None:
    clock = ManualClock()
    ecr = Ecr(clock)
    ecr.hangs.clear()
    logins = EcrLogins(ecr.open, clock)
    waiting = asyncio.create_task(logins.of("eu-west-1"))
    await settled(lambda: bool(ecr.asked))
    await logins.close()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(waiting, 5)


async def settled(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    "answer",
    [
        {"authorizationData": [{"authorizationToken": "hunter2"}]},
        {"authorizationData": []},
        {"ResponseMetadata": {"HTTPStatusCode": 200}},
    ],
)
async def test_what_is_no_token_is_not_told(answer: dict[str, Any]) -> None:
    clock = ManualClock()

    class Odd(Ecr):
        async def get_authorization_token(self) -> dict[str, Any]:
            return answer

    with pytest.raises(Unreachable) as caught:
        await EcrLogins(Odd(clock).open, clock).of("eu-west-1")
    assert "hunter2" not in str(caught.value)
