"""Logins to ECR, AWS's registries, with the role that Kip has: as a node's credential provider does it with the node's.

Which registries are ECR's: cloud-provider-aws, cmd/ecr-credential-provider (2026). public.ecr.aws is not among them:
everybody may pull from it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from kip.cloud.errors import CloudError, Unreachable
from kip.cloud.sdk import EcrSdk
from kip.model.clock import Clock

log = structlog.get_logger(__name__)

_REGISTRY = re.compile(
    r"([0-9]{12})\.dkr[.-]ecr(?:-fips)?\.([a-z0-9][a-z0-9-]*)\."
    r"(?:amazonaws\.com(?:\.cn)?|amazonaws\.eu|on\.aws|on\.amazonwebservices\.com\.cn"
    r"|sc2s\.sgov\.gov|c2s\.ic\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)"
)
# A token lasts 12 hours. What is fetched with it now may take a while.
_EARLIER = timedelta(minutes=15)
# Who is refused, or finds nobody, asks again after that: some pods ask each minute.
_AGAIN_S = 60.0
# Pods name regions as they like; there are some 40.
_REGIONS = 64


@dataclass(frozen=True, slots=True)
class EcrRegistry:
    """Whose registry, and where."""

    account: str
    region: str


def registry(host: str) -> EcrRegistry | None:
    """What the name of a registry of ECR says, None for any other registry."""
    match = _REGISTRY.fullmatch(host)
    return EcrRegistry(match[1], match[2]) if match else None


@dataclass(frozen=True, slots=True)
class EcrLogin:
    """A user and password for all registries of a region that the role may use, whichever account's they are."""

    username: str
    password: str = field(repr=False)
    until: datetime
    """It is not begun with later."""


@dataclass(slots=True)
class _Region:
    login: EcrLogin | None = None
    renew_at: datetime | None = None
    trouble: CloudError | None = None
    """Why the last try brought nothing."""
    again_s: float = 0.0
    """On the monotonic clock: before it nobody asks."""
    asking: asyncio.Task[EcrLogin | CloudError] | None = None


class EcrLogins:
    """One login per region, whoever asks for it: renewed in the second half of its life, and good until its end."""

    def __init__(self, open_ecr: Callable[[str], AbstractAsyncContextManager[EcrSdk]], clock: Clock) -> None:
        """`open_ecr` gives a client for a region (`Session.ecr`)."""
        self._open = open_ecr
        self._clock = clock
        self._regions: OrderedDict[str, _Region] = OrderedDict()

    async def of(self, region: str) -> EcrLogin:
        """The login for that region's registries, wherever Kip itself is. Waits for AWS only where there is none that is
        good. May be cancelled: the call goes on for those who ask next. Raises CloudError."""
        here = self._region(region)
        now = self._clock.now()
        if here.login is not None and here.renew_at is not None and now < here.renew_at:
            return here.login
        if here.asking is None and (here.trouble is None or self._clock.monotonic() >= here.again_s):
            here.asking = asyncio.create_task(self._ask(region, here), name=f"login to ECR in {region}")
        if here.login is not None and now < here.login.until:
            return here.login
        answer = here.trouble if here.asking is None else await asyncio.shield(here.asking)
        if isinstance(answer, EcrLogin):
            return answer
        # It is raised more than once, and would have all those places in it.
        raise (answer or Unreachable("nobody was asked", action="GetAuthorizationToken")).with_traceback(None)

    async def close(self) -> None:
        """Stop asking."""
        tasks = [here.asking for here in self._regions.values() if here.asking is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _region(self, name: str) -> _Region:
        here = self._regions.setdefault(name, _Region())
        self._regions.move_to_end(name)
        idle = [known for known, other in self._regions.items() if other.asking is None and other is not here]
        for known in idle[: max(0, len(self._regions) - _REGIONS)]:
            del self._regions[known]
        return here

    async def _ask(self, region: str, here: _Region) -> EcrLogin | CloudError:
        """The answer, which is also kept."""
        try:
            async with self._open(region) as ecr:
                answer = await ecr.get_authorization_token()
            login, renew_at = self._read(answer.get("authorizationData") or [])
        except CloudError as error:
            if here.trouble is None or here.trouble.summary != error.summary:
                log.warning("no login to ECR", region=region, error=error.summary)
            here.trouble, here.again_s = error, self._clock.monotonic() + _AGAIN_S
            return error
        else:
            here.login, here.renew_at, here.trouble = login, renew_at, None
            return login
        finally:
            here.asking = None

    def _read(self, data: list[dict[str, object]]) -> tuple[EcrLogin, datetime]:
        """The login, and when another one is due. Raises Unreachable."""
        try:
            token = base64.b64decode(str(data[0]["authorizationToken"]), validate=True).decode()
            username, colon, password = token.partition(":")
            end = data[0]["expiresAt"]
            if not colon or not isinstance(end, datetime):
                raise ValueError("incomplete")
        except (IndexError, KeyError, ValueError, binascii.Error) as error:
            # Not what came: it is a password.
            raise Unreachable("no usable token came", action="GetAuthorizationToken") from error
        now = self._clock.now()
        return EcrLogin(username, password, end - _EARLIER), now + (end - now) / 2
