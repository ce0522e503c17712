"""A cell's life from pod to nothing, all parts together, in a world where nothing is slow."""

from __future__ import annotations


async def test_a_pod_gets_a_machine_runs_and_leaves_nothing(world):
    world.begin()
    await world.pod("web")
    await world.until("running", lambda: world.serving("web"))
    assert len(world.live()) == 1
    assert [e["reason"] for e in await world.events()] == ["CellLaunched", "CellReady"]
    await world.delete("web")
    await world.until("gone", world.empty)
    assert await world.get("web") is None
    world.assert_sound()
