"""Connections to the cells' own kubelets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from kip.kubelet.directory import Endpoint
from kip.kubelet.http1 import BadMessage, HttpError, Request, Response, parse_response, read_body, read_head
from kip.kubelet.ports import CellTls
from kip.kubelet.tls import TlsStream

_DIAL_S = 10.0


class CellUnreachable(Exception):
    """A cell's kubelet did not answer; the text is a sentence that names the cell."""


@dataclass(frozen=True, slots=True)
class CellReply:
    """A whole answer of a cell's kubelet."""

    status: int
    body: bytes


async def dial(endpoint: Endpoint, tls: CellTls) -> TlsStream:
    """Connect to the cell's kubelet; raises CellUnreachable."""
    if endpoint.kubelet_socket is None:
        raise CellUnreachable(
            f"cell {endpoint.cell} of pod {endpoint.namespace}/{endpoint.pod} is not connected"
        )
    try:
        async with asyncio.timeout(_DIAL_S):
            reader, writer = await asyncio.open_unix_connection(str(endpoint.kubelet_socket))
            stream = TlsStream(reader, writer, tls.context(), server_side=False)
            try:
                await stream.handshake()
            except BaseException:
                stream.abort()
                raise
    except (OSError, TimeoutError) as error:
        raise CellUnreachable(f"{_name(endpoint)} cannot be reached: {error or 'no answer'}") from error
    return stream


@asynccontextmanager
async def get(
    endpoint: Endpoint, tls: CellTls, target: str
) -> AsyncIterator[tuple[Response, AsyncIterator[bytes]]]:
    """Send a GET; yields the answer's head and its body. Raises CellUnreachable, also from the body."""
    stream = await dial(endpoint, tls)
    try:
        request = Request(
            method="GET", target=target, fields=(("Host", "cell"), ("Accept", "*/*"), ("Connection", "close"))
        )
        await stream.write(request.encode())
        raw = await read_head(stream)
        head = parse_response(raw)
        yield head, read_body(stream, head)
    except (OSError, BadMessage, HttpError) as error:
        raise CellUnreachable(f"{_name(endpoint)} broke off GET {target}: {error}") from error
    finally:
        stream.abort()


async def fetch(endpoint: Endpoint, tls: CellTls, target: str, *, limit: int) -> CellReply:
    """GET the whole answer; raises CellUnreachable, also for an answer of more than `limit` bytes."""
    body = bytearray()
    async with get(endpoint, tls, target) as (head, chunks):
        async for chunk in chunks:
            body += chunk
            if len(body) > limit:
                raise CellUnreachable(f"{_name(endpoint)} answered GET {target} with more than {limit} bytes")
    return CellReply(head.status, bytes(body))


def _name(endpoint: Endpoint) -> str:
    return f"the kubelet of cell {endpoint.cell} ({endpoint.address or 'no address'})"
