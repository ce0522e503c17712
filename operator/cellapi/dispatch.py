"""From a request to its answer: who asks, by which rule, with what result."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from http import HTTPStatus

from aiohttp import web

from kip.cellapi.call import Call, problem_response
from kip.cellapi.paths import Target, parse, resource_of
from kip.cellapi.problem import Problem, bad_request, forbidden, internal, too_many, unauthorized
from kip.cellapi.rules import Match, Rulebook
from kip.cellapi.session import CellSession

_RULEBOOK = Rulebook()
_ANONYMOUS = frozenset(rule.path for rule in _RULEBOOK if rule.anonymous)
_WITH_BODY = frozenset(("POST", "PUT", "PATCH", "DELETE"))
# What a refusal is worth telling for: somebody tries things. 401, 404, 409, 503… happen in the course of life.
_TOLD = frozenset((400, 403, 408, 413, 415))
_NO_RULE = "no rule"


class Dispatcher:
    """Answers the requests of one cell."""

    def __init__(self, session: CellSession) -> None:
        self._session = session

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer, whatever is asked; nothing but the end of the connection is raised."""
        shared = self._session.shared
        began = shared.clock.monotonic()
        rule, verdict, resource = _NO_RULE, "deny", "unreadable"
        try:
            await self._admit(request)
            target = parse(request.raw_path)
            resource = resource_of(target)
            match = _find(request.method, target)
            rule, verdict = match.rule.name, match.rule.verdict
            response = await self._answer(request, target, match)
        except Problem as problem:
            response = self._refuse(request, resource, problem)
        except ConnectionError:
            raise
        except Exception as error:
            self._session.note_failure(request.method, resource, error)
            if request.writer.output_size:
                # In the middle of an answer; what is missing of it cannot be told otherwise.
                raise ConnectionResetError("the answer broke off") from error
            response = problem_response(internal("the request could not be answered"))
        await self._send(request, response)
        shared.hooks.answered(rule, verdict, response.status, shared.clock.monotonic() - began)
        return response

    async def _admit(self, request: web.BaseRequest) -> None:
        """Let the kubelet in at its rate, and nobody else but where no token is needed. Raises Problem (401, 429)."""
        session, headers = self._session, request.headers
        if session.token.matches(headers.get("Authorization"), headers.get("Proxy-Authorization")):
            session.note_request()
            if not session.rate.take():
                await asyncio.sleep(session.shared.limits.penalty_s)
                raise too_many("too many requests")
        elif request.raw_path not in _ANONYMOUS:
            await self._keep_waiting(request)
            raise unauthorized()
        elif not session.anonymous.take():
            await self._keep_waiting(request)
            raise too_many("too many requests without a token")

    async def _keep_waiting(self, request: web.BaseRequest) -> None:
        """Make a stranger pay with time. Raises ConnectionResetError if too many of them wait already."""
        session, limits = self._session, self._session.shared.limits
        if session.strangers >= limits.strangers:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("too many requests without the token")
        session.strangers += 1
        try:
            await asyncio.sleep(limits.penalty_s)
        finally:
            session.strangers -= 1

    async def _answer(self, request: web.BaseRequest, target: Target, match: Match) -> web.StreamResponse:
        call = Call(self._session, request, target, match.names)
        async with self._body_read(call):
            try:
                problem = await match.rule.check(call)
                if problem is not None:
                    raise problem
                return await match.rule.handler(call)
            except RecursionError:
                raise bad_request("the body is nested too deeply") from None

    @contextlib.asynccontextmanager
    async def _body_read(self, call: Call) -> AsyncIterator[None]:
        """The body in memory, while one of the few places for it is taken: of the cell's own for what arrives, which
        may take its time, and of those that all cells share for what it becomes if it is big."""
        if call.request.method not in _WITH_BODY:
            yield
            return
        shared, limits = self._session.shared, self._session.shared.limits
        async with self._session.bodies:
            raw = await call.read_body(limits)
            self._session.rate.charge(len(raw) // limits.bytes_per_request)
            big = len(raw) > limits.big_body_bytes
            async with shared.big_bodies if big else contextlib.nullcontext():
                call.decode_body(raw)
                yield

    def _refuse(self, request: web.BaseRequest, resource: str, problem: Problem) -> web.Response:
        if problem.code in _TOLD:
            self._session.note_refusal(request.method, resource, problem.message)
        response = problem_response(problem)
        # A stranger has to begin anew; and what is left of a body would be taken for the next request.
        if problem.code == HTTPStatus.UNAUTHORIZED or not request.content.is_eof():
            response.force_close()
        return response

    async def _send(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Here and not by the HTTP server, which would wait for ever for a client that does not read."""
        try:
            async with asyncio.timeout(self._session.shared.limits.write_s):
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()


def _find(method: str, target: Target) -> Match:
    """The rule for this request. Raises Problem (403) if there is none, or it denies."""
    match = _RULEBOOK.find(method, target)
    if match is None:
        raise forbidden("not part of what a cell may ask")
    if match.rule.verdict == "deny":
        raise forbidden(match.rule.reason)
    return match
