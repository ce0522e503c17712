"""Handlers that do nothing, and those that refuse."""

from __future__ import annotations

from aiohttp import web

from kip.cellapi.call import Call, success
from kip.cellapi.problem import forbidden, not_found


async def nothing_to_do(call: Call) -> web.StreamResponse:
    """Say that it is done."""
    return success()


async def not_there(call: Call) -> web.StreamResponse:
    """Say that there is no such object."""
    raise not_found(f"{call.target.path} is not there")


async def refuse(call: Call) -> web.StreamResponse:
    raise forbidden("a cell has no business with this")
