"""Handlers that do nothing, and those that refuse."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

from kip.cellapi.call import Call, json_object, success
from kip.cellapi.problem import forbidden, not_found


async def nothing_to_do(call: Call) -> web.StreamResponse:
    """Say that it is done."""
    return success()


async def created(call: Call) -> web.StreamResponse:
    """Say that it has been created, as it was sent."""
    return json_object(call.body, HTTPStatus.CREATED)


async def not_there(call: Call) -> web.StreamResponse:
    """Say that there is no such object."""
    raise not_found(f"{call.target.path} is not there")


async def refuse(call: Call) -> web.StreamResponse:
    raise forbidden("a cell has no business with this")
