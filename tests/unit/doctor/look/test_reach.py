"""What can be reached from here."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest
from patient import CELL, healthy, settings

from kip.doctor.facts import Connection, Facts, Unanswered
from kip.doctor.look import reach
from kip.doctor.look.reach import connect, image_cache_host, look_at_reach


@pytest.fixture
def listener() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[:2]


async def test_who_listens_is_reached(listener: tuple[str, int]) -> None:
    host, port = listener
    assert await connect(host, port, 5) == Connection(f"{host}:{port}")


async def test_nobody_there_and_no_such_name_are_told(listener: tuple[str, int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "refused" in (await connect("127.0.0.1", port, 5)).problem.lower()
    assert (await connect("no-such-host.invalid", 2049, 20)).problem


async def test_a_way_that_swallows_everything_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*arguments: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("asyncio.open_connection", never)
    assert await connect("192.0.2.1", 22, 0.01) == Connection("192.0.2.1:22", "no answer within 0.01 s")


async def test_a_cell_that_runs_is_tried_at_its_port_for_ssh(
    listener: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, port = listener
    monkeypatch.setattr(reach, "SSH", port)
    found = await look_at_reach(healthy(cells=(replace(CELL, private_ip=host),)), timeout_s=5)
    assert found.ssh == Connection(f"i-1 ({host}:{port})")
    assert found.own_address == "10.0.3.4"


@pytest.mark.parametrize("cells", [(), (replace(CELL, state="pending"),), (replace(CELL, private_ip=None),)])
async def test_without_a_cell_that_runs_none_is_tried(cells: tuple[object, ...]) -> None:
    assert (await look_at_reach(healthy(cells=cells), timeout_s=5)).ssh is None


async def test_from_elsewhere_nothing_is_tried() -> None:
    facts = Facts(settings=healthy().settings, cells=(CELL,))
    assert await look_at_reach(facts, timeout_s=5) == facts
    unknown = Unanswered("denied", "no")
    assert (await look_at_reach(healthy(cells=unknown), timeout_s=5)).cells == unknown


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("fs-1.efs.us-west-2.amazonaws.com:/", "fs-1.efs.us-west-2.amazonaws.com"),
        ("10.0.0.9:/srv/images", "10.0.0.9"),
        (None, ""),
    ],
)
def test_the_image_caches_server_is_that_of_its_endpoint(endpoint: str | None, host: str) -> None:
    assert image_cache_host(settings({"cells": {"imageCache": {"endpoint": endpoint}}})) == host


async def test_the_image_cache_is_tried_at_nfs(
    listener: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, port = listener
    monkeypatch.setattr(reach, "NFS", port)
    facts = healthy({"cells": {"imageCache": {"endpoint": f"{host}:/images"}}}, cells=(), image_cache=None)
    assert (await look_at_reach(facts, timeout_s=5)).image_cache == Connection(f"{host}:{port}")
