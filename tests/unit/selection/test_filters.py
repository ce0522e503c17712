"""Filters one by one: what each keeps, and that it gives a reason for the rest."""

from __future__ import annotations

import pytest

from kip.model.instance_type import InstanceType
from kip.model.requirements import Requirements
from kip.selection.candidates import Candidate, candidates
from kip.selection.filters import (
    SIZE,
    Filter,
    apply,
    by_configuration,
    by_cpu,
    by_memory,
    by_name,
    by_zone,
    is_pattern,
    kind_filters,
)


def kind(name: str, vcpus: int = 2, memory_mib: int = 4096) -> InstanceType:
    return InstanceType(
        name=name,
        vcpus=vcpus,
        memory_mib=memory_mib,
        architecture="amd64",
        max_enis=2,
        max_ipv4_per_eni=4,
    )


FOUND = candidates(
    [kind("c7i.large"), kind("c7i-flex.large"), kind("c7gn.xlarge", 4), kind("t3.nano", 2, 512)]
)


def names(found: list[Candidate] | tuple[Candidate, ...]) -> list[str]:
    return [candidate.name for candidate in found]


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        (None, ["c7gn.xlarge", "c7i-flex.large", "c7i.large", "t3.nano"]),
        ("c7i.large", ["c7i.large"]),
        ("c7i*", ["c7i-flex.large", "c7i.large"]),
        ("c7i.*", ["c7i.large"]),
        ("*large", ["c7gn.xlarge", "c7i-flex.large", "c7i.large"]),
        ("*.*arge", ["c7gn.xlarge", "c7i-flex.large", "c7i.large"]),
        ("c7i.larg", []),
        ("c7i.larg?", []),
    ],
)
def test_names_and_patterns(wanted: str | None, kept: list[str]) -> None:
    outcome = by_name(FOUND, Requirements(instance_type=wanted))
    assert names(list(outcome.kept)) == kept
    assert sorted(names(outcome.rejected) + kept) == names(FOUND)


def test_a_dot_is_a_dot() -> None:
    assert not by_name(candidates([kind("c7ixlarge")]), Requirements(instance_type="c7i.large")).kept


@pytest.mark.parametrize(("pattern", "several"), [(None, True), ("c7*", True), ("c7i.large", False)])
def test_is_pattern(pattern: str | None, several: bool) -> None:
    assert is_pattern(pattern) is several


def test_a_pod_that_asks_for_little_still_needs_some_memory() -> None:
    """Of a nano's 512 MiB some 30 are left."""
    assert names(by_memory(FOUND, Requirements(memory_bytes=1)).rejected) == ["t3.nano"]


def test_the_outcomes_end_where_nothing_is_left() -> None:
    outcomes = apply((by_cpu, by_memory), FOUND, Requirements(cpu_millis=100_000))
    assert [outcome.name for outcome in outcomes] == ["cpu"]
    outcomes = apply((by_cpu, by_memory), FOUND, Requirements(cpu_millis=3000))
    assert [names(list(outcome.kept)) for outcome in outcomes] == [["c7gn.xlarge"], ["c7gn.xlarge"]]


@pytest.mark.parametrize("one", kind_filters() + SIZE)
def test_no_filter_minds_an_empty_list(one: Filter) -> None:
    assert list(one((), Requirements(cpu_millis=1)).kept) == []


@pytest.mark.parametrize(
    ("allowed", "excluded", "kept"),
    [
        ((), (), ["c7gn.xlarge", "c7i-flex.large", "c7i.large", "t3.nano"]),
        (("c7i",), (), ["c7i.large"]),
        (("c7i*",), (), ["c7i-flex.large", "c7i.large"]),
        (("c7i.large", "t3"), (), ["c7i.large", "t3.nano"]),
        ((), ("c7*",), ["t3.nano"]),
        (("*large",), ("*.xlarge",), ["c7i-flex.large", "c7i.large"]),
    ],
)
def test_what_the_configuration_leaves(
    allowed: tuple[str, ...], excluded: tuple[str, ...], kept: list[str]
) -> None:
    outcome = by_configuration(allowed, excluded)(FOUND, Requirements())
    assert names(list(outcome.kept)) == kept


def test_a_zone_of_which_nothing_is_known_may_have_everything() -> None:
    offered = {"a": frozenset({"t3.nano"}), "b": frozenset({"c7i.large"})}
    assert names(list(by_zone(("a", "b"), offered)(FOUND, Requirements()).kept)) == ["c7i.large", "t3.nano"]
    assert names(list(by_zone(("a", "z"), offered)(FOUND, Requirements()).kept)) == names(FOUND)
    assert by_zone(("a",), offered)(FOUND, Requirements()).reason == "not offered in a"
