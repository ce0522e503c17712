"""The server at the virtual node's port 10250."""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol

import structlog

from kip.kubelet import stream, systemlogs
from kip.kubelet.aggregate import NodeView
from kip.kubelet.auth import Authenticator, Authorizer, Identity
from kip.kubelet.cell import CellUnreachable, dial
from kip.kubelet.clientca import ClientCa
from kip.kubelet.directory import CellDirectory, Endpoint
from kip.kubelet.http1 import Answer, BadMessage, HttpError, Request, parse_request, read_head
from kip.kubelet.ports import CellTls, Metrics, NoMetrics, ServerTls
from kip.kubelet.routes import CellRoute, NodeRoute, PodRoute, kind_of, route
from kip.kubelet.systemlogs import SystemLogs
from kip.kubelet.tls import TlsStream
from kip.model.background import Background
from kip.model.clock import Clock

log = structlog.get_logger(__name__)

_HANDSHAKE_S = 10.0
_IDLE_S = 30.0
_HEAD_S = 10.0


class LogStore(Protocol):
    """Logs of pods whose cell is gone."""

    async def serve(self, pod: PodRoute, query: list[tuple[str, str]], uid: str | None) -> Answer | None:
        """The answer to `/containerLogs`, None if nothing was kept of this pod; with `uid`, of exactly that pod."""
        ...


class KubeletServer:
    """Serves the virtual node's kubelet API, one request per connection.

    Every connection ends with its answer: a caller's next request may be for another cell, and is authorised anew.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        tls: ServerTls,
        client_ca: ClientCa,
        authenticator: Authenticator,
        authorizer: Authorizer,
        directory: CellDirectory,
        cell_tls: CellTls,
        kept_logs: LogStore,
        system_logs: SystemLogs,
        node_name: str,
        clock: Clock,
        metrics: Metrics | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._client_ca = client_ca
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._directory = directory
        self._cell_tls = cell_tls
        self._kept_logs = kept_logs
        self._system_logs = system_logs
        self._node_name = node_name
        self._clock = clock
        self._metrics = metrics or NoMetrics()
        self._node_view = NodeView(directory, cell_tls, node_name, self._metrics)
        self._server: asyncio.Server | None = None
        self._background = Background()

    @property
    def port(self) -> int:
        """The port it listens on, also when 0 was asked for."""
        if self._server is None or not self._server.sockets:
            return self._port
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen; raises OSError when the port is taken."""
        await self._client_ca.load()
        self._server = await asyncio.start_server(self._accept, self._host, self._port)
        self._background.start(self._client_ca.keep_loaded())

    async def close(self) -> None:
        """Stop listening and cut every stream."""
        if self._server is not None:
            self._server.close()
        await self._background.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._background.start(self._connection(reader, writer))

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            _notice_dead_peers(writer)
            caller = TlsStream(reader, writer, self._tls.context(self._client_ca.pem), server_side=True)
            async with asyncio.timeout(_HANDSHAKE_S):
                await caller.handshake()
            await self._serve(caller)
            await caller.close()
        except (OSError, TimeoutError) as error:
            peer = writer.get_extra_info("peername")
            log.debug("connection broke off", peer=peer, error=str(error) or type(error).__name__)
        except Exception:
            log.exception("request failed")
        finally:
            writer.transport.abort()

    async def _serve(self, caller: TlsStream) -> None:
        """Read the request and see to it that it is answered; raises OSError when a side broke off meanwhile."""
        started = self._clock.monotonic()
        what = "other"
        try:
            request = await _read_request(caller)
            if request is None:
                return
            what = kind_of(request.path)
            status = await self._answer(caller, request)
        except HttpError as error:
            status = error.status
            await caller.write(Answer(status, f"{error.message}\n".encode()).encode())
        self._metrics.answered(what, status, self._clock.monotonic() - started)

    async def _answer(self, caller: TlsStream, request: Request) -> int:
        """Returns the status of the answer given; raises HttpError for one yet to be given."""
        identity = await self._authenticator.authenticate(
            caller.peer_certificate(), request.get("authorization")
        )
        await self._authorizer.authorize(identity, request.method, request.path)
        target = route(request.method, request.path)
        if isinstance(target, NodeRoute):
            return await _tell(caller, await self._node_view.serve(target, request.query_string))
        if isinstance(target, CellRoute):
            log.info("system logs", cell=target.cell, user=identity.user)
            return await _tell(caller, await self._of_cell(target, request))
        _record(identity, target)
        return await self._for_pod(caller, request, target)

    async def _of_cell(self, target: CellRoute, request: Request) -> Answer:
        """The journal of a cell's own programs."""
        command = systemlogs.command(systemlogs.parse(request.query))
        text = await self._system_logs.run(
            target.cell, command, most_bytes=systemlogs.MOST_BYTES, timeout_s=systemlogs.MOST_S
        )
        return Answer(200, text)

    async def _for_pod(self, caller: TlsStream, request: Request, pod: PodRoute) -> int:
        """Ask the pod's cell; logs of a cell that is gone, or just going, come from the store."""
        endpoint = self._directory.find(pod.namespace, pod.pod, pod.uid)
        failure = HttpError(404, f'pod "{pod.pod}" does not exist on node {self._node_name}')
        if endpoint is not None:
            try:
                return await self._through(endpoint, caller, request, pod)
            except CellUnreachable as error:
                # Not 503: of that the API server shows people its own sentence in place of ours.
                failure = HttpError(502, str(error))
        if why := self._directory.why_silent(pod.namespace, pod.pod, pod.uid):
            # As a kubelet says it (kubelet_pods.go, validateContainerLogStatus), so that people and tools know it.
            container = f'container "{pod.container}" in ' if pod.container else ""
            failure = HttpError(400, f'{container}pod "{pod.pod}" {why}')
        if pod.what == "containerLogs":
            answer = await self._kept_logs.serve(pod, request.query, endpoint.pod_uid if endpoint else None)
            if answer is not None:
                return await _tell(caller, answer)
        raise failure

    async def _through(self, endpoint: Endpoint, caller: TlsStream, request: Request, pod: PodRoute) -> int:
        """Raises CellUnreachable as long as the caller was told nothing."""
        cell = await dial(endpoint, self._cell_tls)
        try:
            if pod.may_upgrade and stream.wants_upgrade(request):
                return await stream.upgrade(caller, cell, request)
            return await stream.exchange(caller, cell, request)
        except stream.NoAnswer as error:
            raise CellUnreachable(f"the kubelet of cell {endpoint.cell} broke off: {error}") from error
        finally:
            cell.abort()  # it has ended its side, or there is nobody to tell


async def _read_request(caller: TlsStream) -> Request | None:
    """The request, None if the caller has none; raises HttpError 400, 408 or 431."""
    if not await _speaks(caller):
        return None
    try:
        async with asyncio.timeout(_HEAD_S):
            raw = await read_head(caller)
        return parse_request(raw) if raw else None
    except BadMessage as error:
        raise HttpError(400, str(error)) from error
    except TimeoutError as error:
        raise HttpError(408, f"no complete request within {_HEAD_S:.0f} s") from error


async def _speaks(caller: TlsStream) -> bool:
    """Whether anything comes. Nothing is said to those who say nothing.

    Go's HTTP client dials ahead and may not use the connection after all; an answer on it would be a complaint in the
    API server's log.
    """
    try:
        async with asyncio.timeout(_IDLE_S):
            first = await caller.read()
    except TimeoutError:
        return False
    caller.unread(first)
    return bool(first)


async def _tell(caller: TlsStream, answer: Answer) -> int:
    await caller.write(answer.encode())
    return answer.status


def _record(identity: Identity, pod: PodRoute) -> None:
    """What lets somebody into a pod leaves a trace."""
    write = log.debug if pod.what == "containerLogs" else log.info
    write(
        "kubelet request",
        what=pod.what,
        user=identity.user,
        namespace=pod.namespace,
        pod=pod.pod,
        container=pod.container,
    )


def _notice_dead_peers(writer: asyncio.StreamWriter) -> None:
    """A caller whose machine is gone must not hold a stream: noticed after 30 s + 3 × 10 s of silence."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
