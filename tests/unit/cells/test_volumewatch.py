"""A pod is told of its volume, once for each change, and by one watch for each connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from tests.unit.cells.test_seed import POD, cell

from kip.cells.link import Link
from kip.cells.volumewatch import VolumeWatch
from kip.tunnel.errors import Unreachable


class Reported:
    def __init__(self) -> None:
        self.told: list[str] = []

    async def progress(self, pod: Any, reason: str, message: str) -> None:
        self.told.append(reason)

    async def warning(self, pod: Any, reason: str, message: str) -> None:
        self.told.append(f"{reason}!")


class Tunnel:
    def __init__(self, *says: bool) -> None:
        self.says = says
        self.watches = 0

    async def watch_volume(self) -> AsyncIterator[bool]:
        self.watches += 1
        for answers in self.says:
            yield answers
        raise Unreachable("the connection was lost")


async def test_a_pod_is_told_when_its_volume_goes_and_when_it_is_back() -> None:
    report, link = Reported(), Link(cell(), since=0.0)
    tunnel = link.tunnel = Tunnel(False, True)  # type: ignore[assignment]
    watch = VolumeWatch(report)  # type: ignore[arg-type]
    for _ in range(3):
        watch.follow(POD, link)
    assert link.volume_task
    await asyncio.wait_for(link.volume_task, 5)
    assert report.told == ["ImageCacheAway!", "ImageCacheBack"]
    assert tunnel.watches == 1


async def test_without_a_connection_nothing_is_watched() -> None:
    link = Link(cell(), since=0.0)
    VolumeWatch(Reported()).follow(POD, link)  # type: ignore[arg-type]
    assert link.volume_task is None
