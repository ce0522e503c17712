"""What time it is for a server: by the Date of any answer, so that it needs neither credentials nor a right clock."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp

from kip.cloud.errors import Unreachable


async def date_of(url: str, *, timeout_s: float, verify_tls: bool = True) -> datetime:
    """Ask, with a second's resolution; raises Unreachable when there is no answer in time, or none with a date."""
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
            session.get(url, allow_redirects=False, ssl=verify_tls) as answer,
        ):
            return parse(answer.headers.get("Date", ""))
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Unreachable(f"no answer from {url}: {str(error) or type(error).__name__}") from error
    except ValueError as error:
        raise Unreachable(f"{url} does not say what time it is: {error}") from error


def parse(header: str) -> datetime:
    """The Date header of an HTTP answer; raises ValueError."""
    found = parsedate_to_datetime(header)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
