"""Up starts each part once what it needs is ready; down and status ask every part."""

import os
from pathlib import Path

import pytest

from kip.local import lifecycle
from kip.local.parts import Part
from kip.local.processes import Process
from kip.local.world import World, WorldError


class Recorded(Part):
    """Is ready at the second question, and tells when it was started and when found ready."""

    def __init__(self, told: list[str], name: str, *needs: str) -> None:
        self.name, self.needs, self._told, self._asked = name, needs, told, 0

    def start(self) -> None:
        self._told.append(f"start {self.name}")

    def missing(self) -> str | None:
        self._asked += 1
        if self._asked < 2:
            return "not yet"
        self._told.append(f"ready {self.name}")
        return None


@pytest.fixture(autouse=True)
def _states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIP_LOCAL_STATE", str(tmp_path / "states"))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    parts = [Recorded(lines, "aws"), Recorded(lines, "etcd"), Recorded(lines, "apiserver", "etcd")]
    parts.append(Recorded(lines, "operator", "apiserver", "aws"))
    monkeypatch.setattr(lifecycle, "all_parts", lambda _: parts)
    return lines


def test_what_does_not_wait_for_each_other_starts_together(told: list[str]) -> None:
    lifecycle.up("unit")
    assert told.index("start etcd") < told.index("ready aws")
    assert told.index("ready etcd") < told.index("start apiserver")
    assert max(told.index("ready aws"), told.index("ready apiserver")) < told.index("start operator")
    assert told[-1] == "ready operator"


def test_only_some_parts(told: list[str]) -> None:
    lifecycle.up("unit", only=["apiserver"])
    assert [line for line in told if line.startswith("start")] == ["start etcd", "start apiserver"]


def test_an_unknown_part_starts_nothing(told: list[str]) -> None:
    with pytest.raises(WorldError, match="no part is called 'rom'"):
        lifecycle.up("unit", without=["rom"])
    assert told == []


def test_status_tells_what_each_part_misses(told: list[str]) -> None:
    found = lifecycle.status(World.open("unit"))
    assert [(part.name, part.started, part.missing) for part in found][:1] == [("aws", False, "not yet")]


def test_another_users_world_is_not_touched(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    world = World.open("unit")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for command in (lifecycle.up, lifecycle.down):
        with pytest.raises(WorldError, match="made by root"):
            command("unit")
    assert told == []
    assert world.state.exists()


def test_another_users_world_is_not_even_written(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    World.open("unit")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(World, "save", lambda _: pytest.fail("it was written"))
    with pytest.raises(WorldError, match="made by root"):
        lifecycle.up("unit")


def test_processes_that_others_start_while_they_end_are_ended_too(
    told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    World.open("unit")
    looks = iter([[Process(1, 1)], [Process(2, 2), Process(3, 3)], []])
    ended: list[int] = []
    monkeypatch.setattr(lifecycle.Processes, "all", lambda _: next(looks))
    monkeypatch.setattr(lifecycle, "stop_all", lambda found, _: ended.extend(p.pid for p in found))
    assert lifecycle.down("unit")
    assert ended == [1, 2, 3]


def test_a_world_without_root_has_no_parts_that_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    names = {part.name for part in lifecycle.all_parts(World.open("unit"))}
    assert names.isdisjoint({"network", "room", "dns"})
    assert {"apiserver", "aws", "operator"} <= names
