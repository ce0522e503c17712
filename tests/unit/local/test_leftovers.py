"""The directory of a world goes, and never through a mount."""

import shutil
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from kip.local import leftovers
from kip.local.room import traces
from kip.local.world import World, WorldError


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World("unit", tmp_path / "states" / "unit", IPv4Network("10.78.0.0/24"), False, {})
    made.save()
    return made


def test_the_last_world_takes_the_states_directory_with_it(world: World) -> None:
    leftovers.remove(world)
    assert not world.state.parent.exists()


def test_other_worlds_stay(world: World) -> None:
    other = world.state.parent / "other"
    other.mkdir()
    leftovers.remove(world)
    assert not world.state.exists()
    assert other.exists()


def test_what_is_gone_already_is_fine(world: World) -> None:
    leftovers.remove(world)
    leftovers.remove(world)


def test_an_interrupted_removal_leaves_the_record(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (world.state / "cells").mkdir()
    (world.state / "file").touch()

    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        leftovers.remove(world)
    assert world.record.exists()


def test_a_mount_that_stayed_keeps_everything(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "mounts_below", lambda _: [world.state / "cells/usr"])
    with pytest.raises(WorldError, match=r"still mounted there: .*/cells/usr"):
        leftovers.remove(world)
    assert (world.state / "world.json").exists()
