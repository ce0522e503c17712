"""The parts together: what pods want is worked on, and trouble with the volume stops it for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kip.imagecache.controller import Controller, Seen, Wanted, held_by_cells
from kip.imagecache.eviction import Plan
from kip.imagecache.keeper import Tidied
from kip.imagecache.queue import Queue, Verdict
from kip.imagecache.wants import Want
from kip.images.errors import VolumeUnavailable
from kip.kube.store import Store
from kip.model.clock import ManualClock, settle
from kip.observe.imagecache import ImageCacheMetrics

TOLERATES = [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}]


def pod(name: str, image: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "uid": name, "namespace": "shop", "resourceVersion": "5"}
    return {"metadata": metadata, "spec": {"containers": [{"image": image}], **spec}, "status": {}}


def cell(pod_uid: str, kind: str) -> dict[str, Any]:
    metadata = {"name": f"kip-{pod_uid}", "uid": f"c-{pod_uid}", "resourceVersion": "5"}
    return {"metadata": metadata, "spec": {"podUID": pod_uid}, "status": {"instanceType": kind}}


class Keeper:
    """Says what it is told to say."""

    def __init__(self) -> None:
        self.rounds: list[int] = []
        self.no_room = ""
        self.error: VolumeUnavailable | None = None

    async def tidy(self, *, need_bytes: int = 0) -> Tidied:
        self.rounds.append(need_bytes)
        if self.error:
            raise self.error
        return Tidied(None, Plan(), self.no_room)  # type: ignore[arg-type]


class Bench:
    """A controller at work on stores that a test fills."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.pods, self.waiting, self.cells = Store(), Store(), Store()
        self.keeper = Keeper()
        self.begun: list[tuple[str, str, str]] = []
        self.wanted = Wanted()
        metrics = ImageCacheMetrics()
        self.controller = Controller(
            Seen((self.pods,), (self.waiting,), self.cells),
            self.wanted,
            queue=Queue(self.work, self.clock, parallel=9, again_s=900),
            keeper=self.keeper,  # type: ignore[arg-type]
            metrics=metrics,
            clock=self.clock,
            listed=("listed",),
            platforms=("linux/amd64",),
        )

    async def work(self, want: Want) -> Verdict:
        self.begun.append((want.reference.repository.path, want.platform, want.reason))
        return "done"

    async def news(self) -> None:
        self.controller.changed()
        await self.clock.advance(0.2)
        await settle()

    def synced(self) -> None:
        for store in (self.pods, self.waiting, self.cells):
            store.synced = True


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    task = asyncio.create_task(bench.controller.run())
    await settle()
    yield bench
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_pods_of_the_nodes_come_first_then_the_list_then_those_that_wait(bench: Bench) -> None:
    bench.pods.put(pod("a", "quay.io/a:1", nodeName="kip-provider-0"))
    bench.cells.put(cell("a", "m7g.large"))
    bench.waiting.put(pod("w", "quay.io/w:1", tolerations=TOLERATES))
    bench.waiting.put(pod("other", "quay.io/other:1"))
    await bench.news()
    assert not bench.begun, "not before all of it is known"
    bench.synced()
    await bench.news()
    assert bench.begun == [
        ("a", "linux/arm64", "pod"),
        ("library/listed", "linux/amd64", "list"),
        ("w", "linux/amd64", "waiting"),
    ]


async def test_nothing_is_fetched_while_there_is_no_room(bench: Bench) -> None:
    bench.synced()
    bench.keeper.no_room = "full"
    bench.controller.trouble(500)
    await settle()
    assert bench.keeper.rounds == [0, 500], "the keeper looks at once"
    await bench.news()
    assert not bench.begun
    bench.keeper.no_room = ""
    await bench.clock.advance(10)
    assert [path for path, *_ in bench.begun] == ["library/listed"]


async def test_a_volume_that_is_away_is_said_and_looked_at_again(bench: Bench) -> None:
    bench.synced()
    bench.keeper.error = VolumeUnavailable("not mounted")
    bench.controller.trouble(0)
    await settle()
    assert bench.controller.volume_trouble == "not mounted"
    await bench.news()
    assert not bench.begun
    bench.keeper.error = None
    await bench.clock.advance(10)
    assert bench.controller.volume_trouble is None
    assert bench.begun


async def test_the_keeper_looks_as_soon_as_the_cluster_is_known(bench: Bench) -> None:
    await bench.news()
    assert len(bench.keeper.rounds) == 1
    bench.synced()
    for _ in range(2):
        await bench.news()
    assert len(bench.keeper.rounds) == 2


def test_cells_that_are_not_known_hold_everything() -> None:
    pods, cells, wanted = Store(), Store(), Wanted()
    seen = Seen((pods,), (), cells)
    assert held_by_cells(seen, wanted) is None
    cells.synced = True
    assert held_by_cells(seen, wanted) is None, "what pods want is not known yet"
    pods.synced, wanted.all = True, ()
    assert held_by_cells(seen, wanted) == {}
