"""The cell API: one unix socket per cell, one policy for all."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from kip.cellapi.dispatch import Dispatcher
from kip.cellapi.feed import Feed, run_all
from kip.cellapi.hooks import LogHooks
from kip.cellapi.identity import CellIdentity, Token
from kip.cellapi.limits import Limits
from kip.cellapi.ports import ApiClient, Hooks, Informer, Lending, PodStore
from kip.cellapi.session import CellSession, MemorySeen, Shared
from kip.cellapi.upstream import Upstream
from kip.cellapi.versions import ResourceVersions
from kip.images.lending import NothingLent
from kip.model.clock import Clock

# sun_path has 108 bytes on Linux, the closing zero included.
_MAX_SOCKET_PATH = 107
_BACKLOG = 64
# For handlers to notice that they were cancelled.
_ABORT_S = 5.0
# A kubelet's longest header is its bearer token.
_MAX_HEADER_BYTES = 4096
_MAX_HEADERS = 32
# aiohttp logs every request that is not HTTP, with a traceback: a cell could fill a disk. What matters is told by
# hooks.
_SILENT = logging.Logger("kip.cellapi.http")
_SILENT.disabled = True


class CellApi:
    """Serves the filtered API to any number of cells.

    Each cell has a socket of its own, which its SSH channel is led to: whoever speaks on it *is* that cell, and
    must know the cell's token besides.
    """

    def __init__(
        self,
        *,
        upstream: ApiClient,
        pods: PodStore,
        services: Informer,
        csidrivers: Informer,
        runtimeclasses: Informer,
        node: Callable[[], Mapping[str, Any] | None],
        clock: Clock,
        socket_dir: Path,
        impersonate: bool = True,
        limits: Limits | None = None,
        hooks: Hooks | None = None,
        lending: Lending | None = None,
    ) -> None:
        """`node` gives the virtual node as the cluster has it, None while it is not known. Without `lending` pods get
        none of Kip's logins. With `impersonate` off,
        requests go upstream as the operator itself: see `kip.cellapi.upstream`."""
        feeds = [
            Feed(services, api_version="v1", kind="Service"),
            Feed(csidrivers, api_version="storage.k8s.io/v1", kind="CSIDriver"),
            Feed(runtimeclasses, api_version="node.k8s.io/v1", kind="RuntimeClass"),
        ]
        limits = limits or Limits()
        self._shared = Shared(
            upstream=Upstream(upstream, impersonate=impersonate),
            pods=pods,
            services=feeds[0],
            csidrivers=feeds[1],
            runtimeclasses=feeds[2],
            node=node,
            clock=clock,
            limits=limits,
            hooks=hooks or LogHooks(),
            lending=lending or NothingLent(),
            versions=ResourceVersions(clock),
            big_bodies=asyncio.Semaphore(limits.big_bodies),
        )
        self._feeds = feeds
        self._socket_dir = socket_dir
        self._sessions: dict[str, CellSession] = {}

    async def run(self) -> None:
        """Follow what all cells share, until cancelled. Nothing of it is served before or after.

        Raises what breaks it: kubelets would go on with what they know, and never hear of a change again.
        """
        await run_all(self._feeds)

    async def open(
        self,
        identity: CellIdentity,
        token: str,
        *,
        pod_shown: bool = False,
        memory_seen: MemorySeen = lambda seen_bytes: None,
    ) -> CellSession:
        """Begin to serve a cell; when this returns, its socket can be connected to.

        `pod_shown` is for a cell whose kubelet was told to run the pod before (by an earlier process): its list
        has the pod from the first answer on. Raises ValueError for a token that is none or a socket path too long
        for the system, RuntimeError if the cell is served already.
        """
        if identity.cell_uid in self._sessions:
            raise RuntimeError(f"cell {identity.cell_name} is served already: close its session first")
        session = CellSession(
            identity,
            Token(token),
            self._shared,
            self._socket_path(identity),
            pod_shown=pod_shown,
            memory_seen=memory_seen,
        )
        listener = _bind(session.socket_path)
        server = _CellServer(Dispatcher(session).handle, self._shared.limits)
        listening = await asyncio.get_running_loop().create_unix_server(
            server, sock=listener, backlog=_BACKLOG
        )
        self._sessions[identity.cell_uid] = session

        async def stop() -> None:
            self._sessions.pop(identity.cell_uid, None)
            listening.close()
            session.socket_path.unlink(missing_ok=True)
            await server.abort()

        session.on_close(stop)
        return session

    def session(self, cell_uid: str) -> CellSession | None:
        """The open session of a cell."""
        return self._sessions.get(cell_uid)

    async def close(self) -> None:
        """Stop serving all cells."""
        await asyncio.gather(*(session.close() for session in list(self._sessions.values())))

    def _socket_path(self, identity: CellIdentity) -> Path:
        path = self._socket_dir / f"{identity.cell_uid}.sock"
        if len(bytes(path)) > _MAX_SOCKET_PATH:
            raise ValueError(
                f"{path}: a socket's path may have {_MAX_SOCKET_PATH} bytes; use a shorter directory"
            )
        return path


def _bind(path: Path) -> socket.socket:
    """A socket that only we can connect to, from before the first moment that anybody could."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Left behind by a process that was killed.
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
    except OSError:
        listener.close()
        raise
    return listener


class _CellServer(web.Server):
    """HTTP for one cell. Connections beyond the limit are closed before they say anything."""

    def __init__(
        self, handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], limits: Limits
    ) -> None:
        super().__init__(
            self._tracked,
            # A watch ends with its connection, not at its next event.
            handler_cancellation=True,
            keepalive_timeout=limits.idle_s,
            lingering_time=0.0,
            tcp_keepalive=False,
            auto_decompress=False,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            max_headers=_MAX_HEADERS,
            access_log=None,
            logger=_SILENT,
        )
        self._handle = handle
        self._limit = limits.connections
        self._running: set[asyncio.Task[Any] | None] = set()
        self._closed = False

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        # One that was being accepted while all others were ended comes here after that.
        if self._closed or len(self._connections) > self._limit:
            transport.abort()

    async def _tracked(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        self._running.add(task)
        try:
            return await self._handle(request)
        finally:
            self._running.discard(task)

    async def abort(self) -> None:
        """End every connection now. (`shutdown` would wait for open watches: a timeout of 0 means none to it.)"""
        self._closed = True
        running = {task for task in self._running if task is not None and task is not asyncio.current_task()}
        for task in running:
            task.cancel()
        for transport in list(self._connections.values()):
            transport.abort()
        if running:
            await asyncio.wait(running, timeout=_ABORT_S)
