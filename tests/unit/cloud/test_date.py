"""What time it is for a server."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from kip.cloud.date import date_of, parse
from kip.cloud.errors import Unreachable


async def server(status: int, headers: dict[str, str]) -> TestServer:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers)

    app = web.Application()
    app.router.add_get("/", answer)
    found = TestServer(app)
    await found.start_server()
    return found


@pytest.mark.parametrize("status", [200, 302, 403, 503])
async def test_any_answer_has_a_date(status: int) -> None:
    asked = await server(status, {"Date": "Thu, 05 Nov 2026 12:00:00 GMT", "Location": "http://192.0.2.1"})
    found = await date_of(str(asked.make_url("/")), timeout_s=5)
    assert found == datetime(2026, 11, 5, 12, tzinfo=UTC)
    await asked.close()


async def test_nonsense_is_no_date() -> None:
    asked = await server(200, {"Date": "noon"})
    url = str(asked.make_url("/"))
    with pytest.raises(Unreachable, match="does not say what time it is"):
        await date_of(url, timeout_s=5)
    await asked.close()
    with pytest.raises(Unreachable, match="no answer"):
        await date_of(url, timeout_s=5)


def test_a_date_without_a_zone_is_utc() -> None:
    assert parse("Thu, 05 Nov 2026 12:00:00 -0000") == datetime(2026, 11, 5, 12, tzinfo=UTC)
