"""What a process knows of its Cells, in whatever order it hears of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.doubles.samples import intent

from kip.cells.repository import CELLS_PATH, Cells
from kip.kube.fake import FakeApi
from kip.model.cell import new_cell_object
from kip.model.clock import ManualClock

NODE = "kip-provider-0"


def pod(uid: str) -> dict:
    return {"metadata": {"name": uid, "namespace": "d", "uid": uid}, "spec": {"nodeName": NODE}}


@pytest.fixture
def api():
    return FakeApi(clock=ManualClock())


@pytest.fixture
def cells(api):
    return Cells(api, NODE)


async def test_an_older_version_does_not_replace_a_newer_one(api, cells):
    first = await api.create(CELLS_PATH, new_cell_object(pod("a")))
    newer = await api.patch(f"{CELLS_PATH}/kip-a", {"metadata": {"labels": {"x": "y"}}})
    cells.put(newer)
    assert cells.put(first).resource_version == newer["metadata"]["resourceVersion"]


async def test_old_news_of_a_released_cell_does_not_bring_it_back(api, cells):
    """Its deletion and its last finalizer are two changes, and a watch tells them after we have made them."""
    told: list[tuple[str, dict]] = []
    api.listen("cells", lambda kind, obj: told.append((kind, obj)))
    await cells.release(await cells.create(pod("a")))
    assert [kind for kind, _ in told] == ["ADDED", "MODIFIED", "DELETED"]
    for _, obj in told[:2]:
        cells.see(obj)
        assert cells.get("a") is None


async def test_a_new_cell_for_the_same_pod_is_another_one(api, cells):
    old = await cells.create(pod("a"))
    await cells.release(old)
    new = await cells.create(pod("a"))
    assert cells.get("a") == new
    await api.delete(f"{CELLS_PATH}/kip-a")
    assert cells.forget({"metadata": {"name": old.name, "uid": old.uid}, "spec": {"podUID": "a"}}) == "a"
    assert cells.get("a") == new, "that was news of the old one"


async def test_whoever_counts_hears_of_each_version_and_each_end_once(api):
    seen, gone = [], []
    cells = Cells(
        api,
        NODE,
        seen=lambda cell: seen.append(cell.resource_version),
        gone=lambda cell: gone.append(cell.name),
    )
    made = await cells.create(pod("a"))
    newer = cells.put(await api.patch(f"{CELLS_PATH}/kip-a", {"metadata": {"labels": {"x": "y"}}}))
    cells.put(await api.get(f"{CELLS_PATH}/kip-a"))
    assert seen == [made.resource_version, newer.resource_version]
    assert gone == []
    await cells.release(newer)
    assert gone == ["kip-a"]


async def test_a_cell_made_while_a_list_was_read_is_not_forgotten_by_it(api, cells):
    listed = await api.get(CELLS_PATH)
    made = await cells.create(pod("a"))

    async def old_list(*args, **options):
        return listed

    api.call = old_list
    assert await cells.refresh() == []
    assert cells.get("a") == made


async def test_one_broken_cell_does_not_hide_the_others(api, cells):
    await cells.create(pod("a"))
    broken = new_cell_object(pod("b"))
    broken["status"] = {"conditions": [{"type": "Launched"}]}
    await api.create(CELLS_PATH, broken)
    assert [c.pod_uid for c in await cells.refresh()] == ["a"]
    assert cells.unreadable == {"kip-b"}
    assert await cells.create(pod("b")) is None, "there is one, and nobody knows what it says"


async def test_a_cell_that_is_repaired_or_gone_is_no_longer_unreadable(api, cells):
    broken = new_cell_object(pod("b")) | {"status": {"conditions": [{"type": "Launched"}]}}
    await api.create(CELLS_PATH, broken)
    await cells.refresh()
    repaired = await api.patch(f"{CELLS_PATH}/kip-b/status", {"status": {"conditions": []}})
    cells.see(repaired)
    assert cells.unreadable == set()
    spoilt = await api.patch(f"{CELLS_PATH}/kip-b/status", broken)
    cells.see(spoilt)
    assert cells.unreadable == {"kip-b"}, "not only by a list"
    cells.forget(spoilt)
    assert cells.unreadable == set()


async def test_who_shares_a_launch_is_known_without_looking_at_every_cell(api, cells):
    one, other = await cells.create(pod("a")), await cells.create(pod("b"))
    one = await cells.save(replace(one, intent=intent("t", count=2)))
    other = await cells.save(replace(other, intent=intent("t", count=2)))
    assert set(cells.holders("t")) == {one.uid, other.uid}
    one = await cells.save(replace(one, intent=None))
    assert set(cells.holders("t")) == {other.uid}
    other = await cells.save(replace(other, intent=intent("u", count=2)))
    assert set(cells.holders("t")) == set()
    await cells.release(other)
    assert set(cells.holders("u")) == set()
    one = await cells.save(replace(one, intent=intent("v", count=2)))
    await api.delete(f"{CELLS_PATH}/kip-a")
    await api.patch(f"{CELLS_PATH}/kip-a", {"metadata": {"finalizers": []}})
    await cells.refresh()
    assert set(cells.holders("v")) == set()
