"""Commands on cells over the connection that is there: bounded, and with reasons where there is none."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from kip.app.journals import CellJournals
from kip.kubelet.http1 import HttpError
from kip.tunnel.errors import CommandFailed


class Tunnel:
    """Answers when it is let."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[tuple[str, int]] = []
        self.error: Exception | None = None

    async def run(self, command: str, *, timeout_s: float, most_bytes: int) -> bytes:
        self.asked.append((command, most_bytes))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return b"kubelet[1]: started\n"


class World:
    def __init__(self) -> None:
        self.tunnels: dict[str, Tunnel] = {}
        self.links: dict[str, Any] = {}
        self.cells: Any = SimpleNamespace(
            all=lambda: [SimpleNamespace(name="kip-1"), SimpleNamespace(name="kip-2")], synced=True
        )
        links: Any = SimpleNamespace(get=self.links.get, trouble=lambda link: "no answer within 0.3 s")
        self.journals = CellJournals(self.cells, self, links)  # type: ignore[arg-type]

    def get(self, cell: str) -> Tunnel | None:
        return self.tunnels.get(cell)

    async def run(self, cell: str = "kip-1", timeout_s: float = 5.0) -> bytes:
        return await self.journals.run(cell, "journalctl", most_bytes=100, timeout_s=timeout_s)


@pytest.fixture
def world() -> World:
    return World()


async def test_over_the_connection_that_is_open(world: World) -> None:
    tunnel = world.tunnels["kip-1"] = Tunnel()
    assert await world.run() == b"kubelet[1]: started\n"
    assert tunnel.asked == [("journalctl", 100)]


@pytest.mark.parametrize(
    ("cell", "status", "told"),
    [
        ("kip-9", 404, "there is no cell kip-9 of this node"),
        ("kip-1", 502, "cell kip-1: no connection: no answer within 0.3 s"),
        ("kip-2", 502, "cell kip-2: no connection: it has no machine"),
    ],
)
async def test_why_nobody_answers(world: World, cell: str, status: int, told: str) -> None:
    world.links["kip-1"] = object()
    with pytest.raises(HttpError) as refused:
        await world.run(cell)
    assert (refused.value.status, refused.value.message) == (status, told)


async def test_before_the_cells_are_known_none_is_called_gone(world: World) -> None:
    """Whoever follows the logs of one while another process takes over would stop."""
    world.cells.all, world.cells.synced = list, False
    with pytest.raises(HttpError, match="not known yet") as refused:
        await world.run()
    assert refused.value.status == 503


async def test_a_command_that_fails_says_how(world: World) -> None:
    world.tunnels["kip-1"] = Tunnel()
    world.tunnels["kip-1"].error = CommandFailed("journalctl", None, "more than 100 bytes of output")
    with pytest.raises(HttpError, match="more than 100 bytes") as refused:
        await world.run()
    assert refused.value.status == 502


async def test_only_some_are_asked_at_once_and_others_do_not_wait_for_ever(world: World) -> None:
    tunnel = world.tunnels["kip-1"] = Tunnel()
    tunnel.gate.clear()
    asking = [asyncio.create_task(world.run()) for _ in range(4)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(HttpError, match="too many ask for logs"):
        await world.run(timeout_s=0.05)
    assert len(tunnel.asked) == 4
    tunnel.gate.set()
    assert await asyncio.gather(*asking) == [b"kubelet[1]: started\n"] * 4
