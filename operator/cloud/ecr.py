"""Logins to ECR, AWS's registries, with the role that Kip has: as a node's credential provider does it with the node's.

Which registries are ECR's: cloud-provider-aws, cmd/ecr-credential-provider (2026). public.ecr.aws is not among them:
everybody may pull from it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from kip.cloud.errors import Unreachable
from kip.cloud.sdk import EcrSdk
from kip.model.clock import Clock

_REGISTRY = re.compile(
    r"[0-9]{12}\.dkr[.-]ecr(?:-fips)?\.([a-z0-9][a-z0-9-]*)\."
    r"(?:amazonaws\.com(?:\.cn)?|amazonaws\.eu|on\.aws|on\.amazonwebservices\.com\.cn"
    r"|sc2s\.sgov\.gov|c2s\.ic\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)"
)
# A token lasts 12 hours. What is fetched with it now may take a while.
_EARLIER = timedelta(minutes=15)


def region_of(registry: str) -> str | None:
    """The region of a registry of ECR, None for any other registry."""
    match = _REGISTRY.fullmatch(registry)
    return match[1] if match else None


@dataclass(frozen=True, slots=True)
class EcrLogin:
    """A user and password for all registries of a region that the role may use."""

    username: str
    password: str = field(repr=False)
    until: datetime


class EcrLogins:
    """One login per region, kept until shortly before its end."""

    def __init__(self, open_ecr: Callable[[str], AbstractAsyncContextManager[EcrSdk]], clock: Clock) -> None:
        """`open_ecr` gives a client for a region (`Session.ecr`)."""
        self._open = open_ecr
        self._clock = clock
        self._logins: dict[str, EcrLogin] = {}
        self._asking: dict[str, asyncio.Lock] = {}

    async def of(self, region: str) -> EcrLogin:
        """The login for that region's registries, wherever Kip itself is. Raises CloudError."""
        async with self._asking.setdefault(region, asyncio.Lock()):
            known = self._logins.get(region)
            if known is not None and self._clock.now() < known.until:
                return known
            async with self._open(region) as ecr:
                login = _login((await ecr.get_authorization_token())["authorizationData"])
            self._logins[region] = login
            return login


def _login(data: list[dict[str, object]]) -> EcrLogin:
    try:
        token = base64.b64decode(str(data[0]["authorizationToken"]), validate=True).decode()
        username, colon, password = token.partition(":")
        until = data[0]["expiresAt"]
        if not colon or not isinstance(until, datetime):
            raise ValueError("incomplete")
    except (IndexError, KeyError, ValueError, binascii.Error) as error:
        # Not what came: it is a password.
        raise Unreachable("no usable token came", action="GetAuthorizationToken") from error
    return EcrLogin(username, password, until - _EARLIER)
