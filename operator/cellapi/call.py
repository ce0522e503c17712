"""One request of a cell, on its way through a rule."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from kip.cellapi.limits import Limits
from kip.cellapi.listing import HEADERS, JSON
from kip.cellapi.paths import Target
from kip.cellapi.problem import (
    Problem,
    bad_request,
    too_large,
    too_slow,
    unsupported_media_type,
)
from kip.kube.client import Reply

if TYPE_CHECKING:
    from kip.cellapi.session import CellSession

#: Says why a request that matched a rule is refused all the same; None if it is not.
Check = Callable[["Call"], Awaitable[Problem | None]]
#: Answers a request that a rule lets through.
Handler = Callable[["Call"], Awaitable[web.StreamResponse]]

# From the API server's answer; the rest of its headers is about its own connection.
_PASSED_HEADERS = ("Retry-After", "Warning")
_WRITE_TYPES = frozenset((JSON, "application/strategic-merge-patch+json", "application/merge-patch+json"))


@dataclass(slots=True)
class Call:
    """A request that a rule has matched."""

    session: CellSession
    request: web.BaseRequest
    target: Target
    names: Mapping[str, str]
    """What the placeholders of the rule's pattern stand for."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """The decoded body; empty if there was none."""

    @property
    def encoded_body(self) -> bytes:
        """The body to pass on: written anew from what was checked, so that nobody can read it in two ways (a key
        given twice)."""
        return msgspec.json.encode(self.body)

    @property
    def content_type(self) -> str:
        return self.request.content_type

    def parameters(self, *allowed: str) -> dict[str, str]:
        """The query, if it has only these parameters (and those that ask for nothing); else Problem (400)."""
        harmless = {"timeout", "pretty"}
        if unknown := sorted(set(self.target.query) - harmless - set(allowed)):
            raise bad_request(f"query parameters not served here: {', '.join(unknown)}")
        return {name: value for name, value in self.target.query.items() if name in allowed}

    async def read_body(self, limits: Limits) -> bytes:
        """The body as it came. Raises Problem (408, 413, 415)."""
        if not self.request.body_exists:
            return b""
        if self.content_type not in _WRITE_TYPES or "Content-Encoding" in self.request.headers:
            raise unsupported_media_type(f"a body must be plain {' or '.join(sorted(_WRITE_TYPES))}")
        return await _read(self.request, limits)

    def decode_body(self, raw: bytes) -> None:
        """Raises Problem (400)."""
        try:
            decoded = msgspec.json.decode(raw) if raw else {}
        except (msgspec.DecodeError, RecursionError) as error:
            raise bad_request("the body is not JSON") from error
        if not isinstance(decoded, dict):
            raise bad_request("the body is not a JSON object")
        self.body = decoded


async def _read(request: web.BaseRequest, limits: Limits) -> bytes:
    if (request.content_length or 0) > limits.body_bytes:
        raise too_large(f"a body may have {limits.body_bytes} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(limits.read_s):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limits.body_bytes:
                    raise too_large(f"a body may have {limits.body_bytes} bytes")
    except TimeoutError:
        raise too_slow(f"the body did not arrive within {limits.read_s:g} s") from None
    return bytes(body)


def json_bytes(body: bytes, status: int = HTTPStatus.OK) -> web.Response:
    """An answer that is encoded already."""
    return web.Response(body=body, status=status, headers={**HEADERS, "Content-Type": JSON})


def json_object(obj: Any, status: int = HTTPStatus.OK) -> web.Response:
    return json_bytes(msgspec.json.encode(obj), status)


def success(status: int = HTTPStatus.OK) -> web.Response:
    """The answer to a deletion."""
    return json_object(
        {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": int(status)},
        status,
    )


def problem_response(problem: Problem) -> web.Response:
    response = json_object(problem.status(), problem.code)
    if problem.retry_after_s is not None:
        response.headers["Retry-After"] = str(problem.retry_after_s)
    return response


def passed(reply: Reply) -> web.Response:
    """The API server's answer, as it is."""
    response = web.Response(body=reply.body, status=reply.status, headers=HEADERS)
    response.headers["Content-Type"] = reply.headers.get("Content-Type", JSON)
    for name in _PASSED_HEADERS:
        if name in reply.headers:
            response.headers[name] = reply.headers[name]
    return response
