"""Cells on a real API server: conflicts, finalizers, and what is forgotten when."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.doubles.samples import filled

from kip.cells.repository import CELLS_PATH, Cells
from kip.kube.errors import Conflict, NotFound
from kip.model.clock import SystemClock
from kip.model.names import CELL_FINALIZER

pytestmark = pytest.mark.integration

NODE = "kip-provider-3"


@pytest.fixture
def cells(cluster):
    return Cells(cluster.operator, NODE)


async def test_a_cell_is_made_once_and_found_by_whoever_comes_second(cluster, cells):
    pod = await cluster.pod("web", labels={"app": "web"})
    one = await cells.create(pod)
    other = await Cells(cluster.operator, NODE).create(pod)
    assert one.uid == other.uid
    assert one.name == f"kip-{pod['metadata']['uid']}"
    listed = await cluster.admin.get(CELLS_PATH, labelSelector="app=web")
    assert listed["items"][0]["metadata"]["finalizers"] == [CELL_FINALIZER]


async def test_everything_that_is_written_is_read_again(cluster, cells):
    saved = await cells.save(filled(await cells.create(await cluster.pod("web"))))
    again = Cells(cluster.operator, NODE)
    [read] = await again.refresh()
    assert read == saved
    assert read.status() == filled(read).status()
    assert again.synced


async def test_what_is_no_longer_so_is_taken_away(cluster, cells):
    saved = await cells.save(filled(await cells.create(await cluster.pod("web"))))
    now = SystemClock().now().replace(microsecond=0)
    given_up = await cells.save(saved.given_up(now=now, reason="CellUnreachable", message="no answer"))
    [read] = await Cells(cluster.operator, NODE).refresh()
    assert read == given_up
    assert (read.intent, read.instance_id, read.host_key) == (None, None, None)


async def test_who_writes_over_an_old_version_is_refused_and_learns_the_new_one(cluster, cells):
    cell = await cells.create(await cluster.pod("web"))
    other = Cells(cluster.operator, NODE)
    [theirs] = await other.refresh()
    await other.save(replace(theirs, attempt=1))
    with pytest.raises(Conflict):
        await cells.save(replace(cell, attempt=7))
    [fresh] = await cells.refresh()
    assert (await cells.save(replace(fresh, attempt=2))).attempt == 2


async def test_a_cell_deleted_by_hand_stays_until_it_is_released(cluster, cells):
    cell = await cells.create(await cluster.pod("web"))
    await cluster.admin.delete(f"{CELLS_PATH}/{cell.name}")
    [held] = await cells.refresh()
    assert held.deleting
    assert held.phase == "Terminating"
    await cells.release(held)
    assert cells.all() == []
    with pytest.raises(NotFound):
        await cluster.admin.get(f"{CELLS_PATH}/{cell.name}")
    await cells.release(held)


async def test_releasing_deletes_and_leaves_a_successor_alone(cluster, cells):
    pod = await cluster.pod("web")
    old = await cells.create(pod)
    await cells.release(old)
    successor = await cells.create(pod)
    assert successor.uid != old.uid
    with pytest.raises(Conflict):
        await cells.release(old)
    assert (await cluster.admin.get(f"{CELLS_PATH}/{old.name}"))["metadata"]["uid"] == successor.uid


async def test_somebody_elses_finalizer_is_respected(cluster, cells):
    cell = await cells.create(await cluster.pod("web"))
    path = f"{CELLS_PATH}/{cell.name}"
    await cluster.admin.patch(path, {"metadata": {"finalizers": [CELL_FINALIZER, "example.org/theirs"]}})
    await cells.release(cell)
    assert (await cluster.admin.get(path))["metadata"]["finalizers"] == ["example.org/theirs"]


async def test_other_nodes_cells_are_not_ours(cluster, cells):
    pod = await cluster.pod("web")
    theirs = Cells(cluster.admin, "kip-provider-9")
    made = await theirs.create({**pod, "spec": {**pod["spec"], "nodeName": "kip-provider-9"}})
    assert await cells.refresh() == []
    await theirs.release(made)


async def test_what_vanished_unseen_is_forgotten_at_the_next_list(cluster, cells):
    cell = await cells.create(await cluster.pod("web"))
    path = f"{CELLS_PATH}/{cell.name}"
    await cluster.admin.patch(path, {"metadata": {"finalizers": []}})
    await cluster.admin.delete(path)
    assert cells.get(cell.pod_uid) is not None
    assert await cells.refresh() == []
    assert cells.get(cell.pod_uid) is None
