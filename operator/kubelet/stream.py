"""Copying one request to a cell's kubelet and the answer back, byte by byte."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

from kip.kubelet.http1 import (
    Answer,
    BadMessage,
    Head,
    HttpError,
    Request,
    Response,
    parse_response,
    read_body,
    read_head,
    request_body,
)
from kip.kubelet.tls import TlsStream

# An answer that refuses an upgrade is a sentence; a kubelet writes no longer ones.
_REFUSAL_LIMIT_BYTES = 64 * 1024
# After the caller has ended their side a kubelet stops at once (Go's server takes it for a hang-up). A cell that has
# not even said something for this long does not answer any more.
_AFTER_HANGUP_S = 60.0

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})\b")
_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie"})
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "proxy-connection", "upgrade"})
# The one place where a browser can put a bearer token into a WebSocket's handshake (Kubernetes 1.8 and later).
_TOKEN_PROTOCOL = "base64url.bearer.authorization.k8s.io."  # noqa: S105 - a prefix, not a secret


class NoAnswer(Exception):
    """The cell's kubelet broke off before its answer began: nothing was told to the caller yet."""


def wants_upgrade(head: Head) -> bool:
    """Whether a request asks to turn its connection into something else (SPDY/3.1, WebSocket)."""
    return "upgrade" in head.tokens("connection") and head.get("upgrade") is not None


def forwarded(request: Request, *, upgrade: bool) -> Request:
    """The request as the cell's kubelet gets it: no credentials, and no second request on its connection.

    The API server keeps connections open and sends the next request over them, which may be for another pod's cell.
    """
    drop = _CREDENTIALS if upgrade else _CREDENTIALS | _HOP_BY_HOP
    fields = [
        field for field in map(_without_token, request.fields) if field and field[0].lower() not in drop
    ]
    if not upgrade:
        fields.append(("Connection", "close"))
    return request.with_fields(fields)


async def exchange(caller: TlsStream, cell: TlsStream, request: Request) -> int:
    """Send a plain request with its body and copy the answer until the cell closes; returns the answer's status.

    Raises NoAnswer if none came, OSError when either side broke off later.
    """
    await _send(cell, forwarded(request, upgrade=False))
    return await _splice(caller, cell, request_body(caller, request))


async def upgrade(caller: TlsStream, cell: TlsStream, request: Request) -> int:
    """Send a request for an upgrade and copy the stream it becomes; returns the answer's status.

    Only 101 makes the connection the caller's own. After any other answer a kubelet waits for the next request on
    it, which nobody would have authorised: the answer is told and nothing else passes.
    Raises NoAnswer if none came, OSError when either side broke off later or the caller left before the answer.
    """
    await _send(cell, forwarded(request, upgrade=True))
    raw = await _head_or_hangup(caller, cell)
    try:
        head = parse_response(raw)
        refusal = None if head.status == 101 else await _refusal(cell, head)
    except (OSError, BadMessage) as error:
        raise NoAnswer(str(error)) from error
    if refusal is not None:
        await caller.write(refusal.encode())
    else:
        await caller.write(raw)
        await _splice(caller, cell, _everything(caller), status=101)
    return head.status


async def _send(cell: TlsStream, request: Request) -> None:
    try:
        await cell.write(request.encode())
    except OSError as error:
        raise NoAnswer(str(error)) from error


async def _refusal(cell: TlsStream, head: Response) -> Answer:
    body = bytearray()
    async for data in read_body(cell, head):
        body += data
        if len(body) > _REFUSAL_LIMIT_BYTES:
            break
    content_type = head.get("content-type") or "text/plain; charset=utf-8"
    return Answer(head.status, bytes(body[:_REFUSAL_LIMIT_BYTES]), content_type)


class _Copied:
    """What reached the caller, shown while the copying goes on."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.bytes = 0


async def _splice(
    caller: TlsStream, cell: TlsStream, upward: AsyncIterator[bytes], *, status: int = 0
) -> int:
    """Copy `upward` to the cell and its answer to the caller, until the cell has ended its side.

    Returns the status of the answer: `status` if it was told already, else the one in the first bytes that pass.
    """
    copied = _Copied(status)
    down = asyncio.create_task(_copy_down(cell, caller, copied))
    up = asyncio.create_task(_copy_up(caller, cell, upward))
    try:
        await asyncio.wait({down, up}, return_when=asyncio.FIRST_COMPLETED)
        if not down.done():
            up.result()
            await _last_words(down, copied)
        await down
    finally:
        down.cancel()
        up.cancel()
        await asyncio.gather(down, up, return_exceptions=True)
    return copied.status


async def _copy_down(cell: TlsStream, caller: TlsStream, copied: _Copied) -> None:
    while data := await _next(cell, copied):
        if not copied.status and (match := _STATUS.match(data)):
            copied.status = int(match[1])
        await caller.write(data)
        copied.bytes += len(data)


async def _next(cell: TlsStream, copied: _Copied) -> bytes:
    """The cell's next bytes; raises NoAnswer when it ends, or breaks off, before any answer."""
    try:
        data = await cell.read()
    except OSError as error:
        if copied.status or copied.bytes:
            raise
        raise NoAnswer(str(error)) from error
    if not (data or copied.status or copied.bytes):
        raise NoAnswer("it closed the connection")
    return data


async def _everything(caller: TlsStream) -> AsyncIterator[bytes]:
    while data := await caller.read():
        yield data


async def _copy_up(caller: TlsStream, cell: TlsStream, upward: AsyncIterator[bytes]) -> None:
    """Copy until the caller has ended their side, and pass that on; raises OSError when the caller is gone."""
    try:
        async for data in upward:
            if not await _sent(cell, data):
                return  # the cell takes no more; what it has said is still on its way down
    except BadMessage as error:
        raise ConnectionResetError(f"the caller's request: {error}") from error
    while await caller.read():
        pass  # behind a request there is nothing for this cell: see `forwarded`
    try:
        await cell.write_eof()
    except OSError:
        return


async def _sent(cell: TlsStream, data: bytes) -> bool:
    try:
        await cell.write(data)
    except OSError:
        return False
    return True


async def _last_words(down: asyncio.Task[None], copied: _Copied) -> None:
    """Wait for the rest of the answer as long as it keeps coming."""
    while not down.done():
        before = copied.bytes
        await asyncio.wait({down}, timeout=_AFTER_HANGUP_S)
        if not down.done() and copied.bytes == before:
            raise ConnectionResetError(
                f"the cell was silent for {_AFTER_HANGUP_S:.0f} s after the caller hung up"
            )


async def _head_or_hangup(caller: TlsStream, cell: TlsStream) -> bytes:
    """The head of the cell's answer; raises NoAnswer when the cell closed first, OSError when the caller did."""
    answer = asyncio.create_task(read_head(cell))
    early = asyncio.create_task(caller.read())
    try:
        await asyncio.wait({answer, early}, return_when=asyncio.FIRST_COMPLETED)
        if early.done():
            if not (data := early.result()):
                raise ConnectionResetError("the caller left before the answer")
            caller.unread(data)
        return await _nonempty(answer)
    finally:
        answer.cancel()
        early.cancel()
        await asyncio.gather(answer, early, return_exceptions=True)


async def _nonempty(answer: asyncio.Task[bytes]) -> bytes:
    try:
        raw = await answer
    except (OSError, BadMessage, HttpError) as error:
        raise NoAnswer(str(error)) from error
    if not raw:
        raise NoAnswer("it closed the connection")
    return raw


def _without_token(field: tuple[str, str]) -> tuple[str, str] | None:
    """The field without a bearer token that a WebSocket's handshake may carry; None if nothing is left of it."""
    name, value = field
    if name.lower() != "sec-websocket-protocol":
        return field
    kept = [part.strip() for part in value.split(",") if not part.strip().startswith(_TOKEN_PROTOCOL)]
    return (name, ", ".join(kept)) if kept else None
