"""Whatever a test wants to say in a registry's place, and who asks there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tests.doubles.registry import PATIENCE

from kip.model.clock import SystemClock
from kip.oci.client import Registries, open_registries
from kip.oci.reference import Reference, parse
from kip.oci.transport import Patience

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Answer], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a server that answers everything with that function; returns its URL."""
    async with AsyncExitStack() as stack:

        async def start(answer: Answer) -> str:
            application = web.Application()
            application.router.add_route("*", "/{path:.*}", answer)
            server = await stack.enter_async_context(TestServer(application))
            return str(server.make_url("")).rstrip("/")

        yield start


Client = Callable[..., Awaitable[Registries]]


@pytest.fixture
async def client_of() -> AsyncIterator[Client]:
    """A client that asks at these URLs for all registries."""
    async with AsyncExitStack() as stack:

        async def client(*urls: str, patience: Patience = PATIENCE) -> Registries:
            mirrors = {"*": list(urls)}
            return await stack.enter_async_context(
                open_registries(SystemClock(), mirrors=mirrors, patience=patience)
            )

        yield client


@pytest.fixture
def reference() -> Reference:
    return parse("quay.io/team/app:1")
