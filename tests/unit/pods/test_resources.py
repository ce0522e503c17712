"""Requests as the scheduler counts them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kip.pods.resources import requests


def container(cpu: str | None = None, memory: str | None = None, **more: Any) -> dict[str, Any]:
    given = {name: value for name, value in (("cpu", cpu), ("memory", memory)) if value is not None}
    return {"name": "c", "resources": {"requests": given}, **more}


def sidecar(cpu: str) -> dict[str, Any]:
    return container(cpu, restartPolicy="Always")


def cpu(**spec: Any) -> Decimal:
    return requests({"spec": spec}).get("cpu", Decimal(0))


def test_containers_run_side_by_side() -> None:
    total = requests({"spec": {"containers": [container("500m", "1Gi"), container("1", "512Mi")]}})
    assert total == {"cpu": Decimal("1.5"), "memory": Decimal(1536 * 2**20)}


def test_a_limit_without_a_request_is_one() -> None:
    only_limit = {"resources": {"limits": {"cpu": "2", "nvidia.com/gpu": "1"}, "requests": {"memory": "1Gi"}}}
    assert requests({"spec": {"containers": [only_limit]}}) == {
        "cpu": 2,
        "nvidia.com/gpu": 1,
        "memory": 2**30,
    }


def test_a_request_counts_and_not_its_limit() -> None:
    both = {"resources": {"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}}
    assert cpu(containers=[both]) == 1


def test_init_containers_run_one_after_the_other() -> None:
    assert cpu(containers=[container("1")], initContainers=[container("2"), container("3")]) == 3
    assert cpu(containers=[container("4")], initContainers=[container("2"), container("3")]) == 4


def test_sidecars_run_from_their_turn_to_the_end() -> None:
    # 1 + 2 later; while the second init container runs: 2 + 5; before the sidecar: 6.
    spec = {
        "containers": [container("1")],
        "initContainers": [container("6"), sidecar("2"), container("5"), container("1")],
    }
    assert cpu(**spec) == 7


def test_a_sidecar_after_the_heavy_one_does_not_add_to_it() -> None:
    assert cpu(containers=[container("1")], initContainers=[container("5"), sidecar("2")]) == 5


def test_overhead_comes_on_top() -> None:
    assert cpu(
        containers=[container("1")], initContainers=[container("2")], overhead={"cpu": "250m"}
    ) == Decimal("2.25")


def test_what_is_set_for_the_whole_pod_replaces_the_sum() -> None:
    total = requests(
        {
            "spec": {
                "containers": [container("1", "1Gi")],
                "resources": {"requests": {"cpu": "3"}, "limits": {"cpu": "4"}},
                "overhead": {"cpu": "1"},
            }
        }
    )
    assert total == {"cpu": 4, "memory": 2**30}


def test_a_pod_level_limit_counts_where_no_container_requests_anything() -> None:
    limits = {"limits": {"cpu": "4", "memory": "2Gi"}}
    total = requests({"spec": {"containers": [container("1")], "resources": limits}})
    assert total == {"cpu": 1, "memory": 2 * 2**30}


def test_other_resources_cannot_be_set_for_the_whole_pod() -> None:
    spec = {"containers": [], "resources": {"requests": {"example.com/fpga": "1", "hugepages-2Mi": "4Mi"}}}
    assert requests({"spec": spec}) == {"hugepages-2Mi": 4 * 2**20}


def test_nothing_at_all() -> None:
    assert requests({"spec": {"containers": [{"name": "c", "resources": None}, {"name": "d"}]}}) == {}


CPUS = st.integers(min_value=0, max_value=8).map(str)


@given(st.lists(CPUS, max_size=4), st.lists(st.tuples(st.booleans(), CPUS), max_size=5))
def test_against_playing_the_pods_life(containers: list[str], inits: list[tuple[bool, str]]) -> None:
    """The most that ever runs at once, found by walking through the pod's start."""
    running = 0
    seen = [0]
    for restarted, amount in inits:
        seen.append(running + int(amount))
        running += int(amount) if restarted else 0
    seen.append(running + sum(map(int, containers)))
    spec = {
        "containers": [container(amount) for amount in containers],
        "initContainers": [
            sidecar(amount) if restarted else container(amount) for restarted, amount in inits
        ],
    }
    assert cpu(**spec) == max(seen)
