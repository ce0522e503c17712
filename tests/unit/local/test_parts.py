"""Which parts are started, and in which order."""

import sys
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from kip.local.parts import Part, ProcessPart, choose, in_order
from kip.local.processes import Command
from kip.local.waiting import NotReadyError
from kip.local.world import World, WorldError


class Fake(Part):
    def __init__(self, name: str, *needs: str) -> None:
        self.name, self.needs = name, needs

    def start(self) -> None: ...

    def missing(self) -> str | None:
        return None


PARTS = [
    Fake("operator", "cluster", "aws"),
    Fake("aws"),
    Fake("cluster", "apiserver"),
    Fake("apiserver", "etcd"),
    Fake("etcd"),
]


def names(parts: list[Part]) -> list[str]:
    return [part.name for part in parts]


def test_each_part_comes_after_what_it_needs() -> None:
    assert names(in_order(PARTS)) == ["aws", "etcd", "apiserver", "cluster", "operator"]


def test_a_wanted_part_brings_what_it_needs_and_nothing_else() -> None:
    assert names(choose(PARTS, ["cluster"], ())) == ["etcd", "apiserver", "cluster"]


def test_leaving_a_part_out_leaves_out_what_needs_it() -> None:
    assert names(choose(PARTS, None, ["aws"])) == ["etcd", "apiserver", "cluster"]


def test_wanting_what_cannot_be_without_the_left_out_is_refused() -> None:
    with pytest.raises(WorldError, match="operator cannot be started without aws"):
        choose(PARTS, ["operator"], ["aws"])


def test_a_name_that_no_part_has_is_told_with_those_there_are() -> None:
    with pytest.raises(WorldError, match="'dsn'; the parts are operator, aws"):
        choose(PARTS, None, ["dsn"])


def test_a_circle_is_refused() -> None:
    with pytest.raises(WorldError, match="need each other: a, b"):
        in_order([Fake("a", "b"), Fake("b", "a")])


class Failing(ProcessPart):
    name = "failing"
    patience = 5

    def command(self) -> Command:
        return Command(self.name, (sys.executable, "-c", "print('port in use'); raise SystemExit(1)"))

    def answer(self) -> str | None:
        return "nothing yet"


def test_a_process_that_ends_is_told_at_once_with_its_last_words(tmp_path: Path) -> None:
    part = Failing(World("unit", tmp_path / "unit", IPv4Network("10.78.0.0/24"), False, {}))
    part.start()
    with pytest.raises(NotReadyError, match=r"(?s)failing ended; last lines of .*failing\.log:.*port in use"):
        part.wait()
