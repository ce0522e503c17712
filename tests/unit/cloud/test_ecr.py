"""Logins to ECR: one per region, kept, and given to nobody else's registry."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from kip.cloud.ecr import EcrLogins, region_of
from kip.cloud.errors import NotAuthorized, Unreachable
from kip.model.clock import ManualClock

HOURS_12 = 12 * 3600.0


@pytest.mark.parametrize(
    ("registry", "region"),
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
def test_which_registries_are_ecrs(registry: str, region: str | None) -> None:
    assert region_of(registry) == region


class Ecr:
    """Gives another token each time."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.asked: list[str] = []
        self.broken = False

    @asynccontextmanager
    async def open(self, region: str) -> AsyncIterator[Any]:
        self.asked.append(region)
        yield self

    async def get_authorization_token(self) -> dict[str, Any]:
        await asyncio.sleep(0)
        if self.broken:
            raise NotAuthorized("no", action="GetAuthorizationToken", code="AccessDeniedException")
        token = base64.b64encode(f"AWS:{len(self.asked)}".encode()).decode()
        until = self.clock.now() + timedelta(seconds=HOURS_12)
        return {"authorizationData": [{"authorizationToken": token, "expiresAt": until}]}


async def test_a_login_is_kept_until_shortly_before_its_end() -> None:
    clock = ManualClock()
    ecr = Ecr(clock)
    logins = EcrLogins(ecr.open, clock)
    many = await asyncio.gather(*(logins.of("eu-west-1") for _ in range(5)))
    assert {(login.username, login.password) for login in many} == {("AWS", "1")}
    await logins.of("us-east-1")
    assert ecr.asked == ["eu-west-1", "us-east-1"]
    await clock.advance(HOURS_12 - 60)
    assert (await logins.of("eu-west-1")).password == "3"


async def test_a_refusal_is_not_kept() -> None:
    clock = ManualClock()
    ecr = Ecr(clock)
    logins = EcrLogins(ecr.open, clock)
    ecr.broken = True
    with pytest.raises(NotAuthorized) as caught:
        await logins.of("eu-west-1")
    assert caught.value.permission == "ecr:GetAuthorizationToken"
    ecr.broken = False
    assert (await logins.of("eu-west-1")).password == "2"


async def test_what_is_no_token_is_not_told() -> None:
    clock = ManualClock()

    class Odd(Ecr):
        async def get_authorization_token(self) -> dict[str, Any]:
            return {"authorizationData": [{"authorizationToken": "hunter2"}]}

    with pytest.raises(Unreachable) as caught:
        await EcrLogins(Odd(clock).open, clock).of("eu-west-1")
    assert "hunter2" not in str(caught.value)
