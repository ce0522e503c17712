"""The instance metadata service: IMDSv2 at 169.254.169.254 in the room's namespace, for all machines.

An instance is told by the address that asks: its primary one or, for a pod, a secondary one. Session tokens
are required, as the operator launches instances; a hop limit is the time-to-live of the packets that carry one.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from kip.local.network import METADATA_ADDRESS, Network
from kip.local.room.instances import Instance
from kip.local.room.metadata import look_up, tree

PORT = 80
_TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN_HEADER = "X-aws-ec2-metadata-token"
_LONGEST_TTL = 21600  # seconds
_LINK_ADDRESS = "02:00:a9:fe:a9:fe"  # made as the machines' are, from 169.254.169.254
_CLONE_NEWNET = 0x40000000


class MetadataService:
    """Answers machines' questions about themselves."""

    def __init__(
        self, instance_at: Callable[[str], Instance | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Takes how to find the running instance that has an address, and the time in seconds."""
        self._instance_at = instance_at
        self._clock = clock
        self._tokens: dict[str, tuple[str, float]] = {}  # token to instance id and end of life

    def application(self) -> web.Application:
        """The HTTP side."""
        application = web.Application()
        application.router.add_put("/latest/api/token", self._give_token)
        application.router.add_get("/{version}", self._answer)
        application.router.add_get("/{version}/{path:.*}", self._answer)
        return application

    async def _give_token(self, request: web.Request) -> web.Response:
        instance = self._asking(request)
        if "X-Forwarded-For" in request.headers:
            return web.Response(status=403)  # whoever is behind an open proxy on the instance is not it
        ttl = request.headers.get(_TTL_HEADER, "")
        if not ttl.isdigit() or not 1 <= int(ttl) <= _LONGEST_TTL:
            return web.Response(status=400, text=f"{_TTL_HEADER}: expected 1 to {_LONGEST_TTL} seconds")
        now = self._clock()
        self._tokens = {token: kept for token, kept in self._tokens.items() if kept[1] > now}
        token = secrets.token_urlsafe(40)
        self._tokens[token] = (instance.id, now + int(ttl))
        _limit_hops(request, instance.hop_limit)
        return web.Response(text=token, headers={_TTL_HEADER: ttl})

    async def _answer(self, request: web.Request) -> web.Response:
        instance = self._asking(request)
        owner, end = self._tokens.get(request.headers.get(_TOKEN_HEADER, ""), ("", 0.0))
        if owner != instance.id or end <= self._clock():
            return web.Response(status=401)
        content = look_up(tree(instance), request.match_info.get("path", ""))
        if content is None:
            return web.Response(status=404)
        return web.Response(body=content, content_type="text/plain")

    def _asking(self, request: web.Request) -> Instance:
        instance = self._instance_at(request.remote or "")
        if instance is None:
            raise web.HTTPNotFound(text=f"no running instance has the address {request.remote}\n")
        return instance


def _limit_hops(request: web.Request, limit: int | None) -> None:
    sock = request.transport.get_extra_info("socket") if request.transport and limit else None
    if sock is not None:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, limit)


async def serve(service: MetadataService, network: Network) -> web.AppRunner:
    """Listens at IMDS's address inside the network's namespace; `cleanup()` of what is returned ends it.

    Raises:
        OSError: the namespace is not there, or the address is taken.
    """
    await asyncio.to_thread(_keep_link_address, network)
    listening = await asyncio.to_thread(_listen_in, network.namespace_path)
    runner = web.AppRunner(service.application(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.SockSite(runner, listening).start()
    return runner


def _keep_link_address(network: Network) -> None:
    """Gives the bridge a link address of its own.

    Without one it has the lowest of its ports', which changes as machines come and go: then the others' neighbour
    entries for IMDS are wrong, and their questions are lost for up to half a minute.
    """
    done = subprocess.run(
        network.enter("ip", "link", "set", network.bridge, "address", _LINK_ADDRESS),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise OSError(
            f"the link address of {network.bridge} in {network.namespace_path}: {done.stderr.strip()}"
        )


def _listen_in(namespace: Path) -> socket.socket:
    """A listening socket of that namespace: a socket stays where the thread was that made it."""
    with Path("/proc/thread-self/ns/net").open() as home, namespace.open() as away:
        _enter(away.fileno())
        try:
            listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((str(METADATA_ADDRESS), PORT))
            listening.listen(128)
            listening.setblocking(False)
        finally:
            _enter(home.fileno())
    return listening


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns needs Python 3.12
    if libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), f"setns: {os.strerror(ctypes.get_errno())}")
