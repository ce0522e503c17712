"""EC2 gives less than is asked for, or nothing: what pods get instead, and what people are told."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from support import manifests
from support.cluster import Object
from support.world import E2eWorld

pytestmark = pytest.mark.e2e

TYPES = "pod.elotl.co/instance-type"
BATCH, GRANTED, BOOTED = 20, 8, 4


def told(world: E2eWorld, namespace: str, pod: str, reason: str) -> str:
    """The newest event of this kind about the pod."""
    found = [event["message"] for event in world.events(namespace, pod) if event["reason"] == reason]
    assert found, f"no event {reason} about {pod}"
    return str(found[-1])


def test_when_two_offers_are_sold_out_the_pod_runs_on_the_third_and_its_event_says_so(
    world: E2eWorld, namespace: str
) -> None:
    world.aws.forget_calls()
    world.aws.fail("RunInstances", error="InsufficientInstanceCapacity", count=2)
    world.run(manifests.pod("third", namespace, annotations={TYPES: "c5*"}))
    calls = world.aws.calls("RunInstances")
    errors = [call["error"] for call in calls]
    assert errors == ["InsufficientInstanceCapacity", "InsufficientInstanceCapacity", None]
    types = [call["instance_type"] for call in calls]
    assert len(set(types)) == 3
    message = told(world, namespace, "third", "CellLaunched")
    assert types[2] in message
    refused = message.partition("refused were ")[2]
    assert all(kind in refused for kind in types[:2]), message
    assert "InsufficientInstanceCapacity" in refused


@pytest.mark.parametrize(
    ("code", "family"),
    [
        ("VcpuLimitExceeded", "m5*"),
        ("Unsupported", "r5*"),
        ("InsufficientHostCapacity", "m6i*"),
        ("UnfulfillableCapacity", "c6i*"),
    ],
)
def test_what_only_another_offer_can_help_against_is_answered_by_one_at_once(
    world: E2eWorld, namespace: str, code: str, family: str
) -> None:
    """Each with types of its own: what was refused is left out for a while, for all pods."""
    world.aws.forget_calls()
    world.aws.fail("RunInstances", error=code)
    world.run(manifests.pod("elsewhere", namespace, annotations={TYPES: family}))
    first, second = world.aws.calls("RunInstances")
    assert (first["error"], second["error"]) == (code, None)
    assert first["instance_type"] != second["instance_type"]
    assert code in told(world, namespace, "elsewhere", "CellLaunched")


@pytest.fixture
def slowly_booting(world: E2eWorld) -> Iterator[None]:
    """Twenty machines that boot at once are more than this host has processors for."""
    world.aws.settings(boot_delay_s=20)
    yield
    world.aws.settings(boot_delay_s=0)


def _unscheduled(world: E2eWorld, namespace: str) -> list[Object]:
    """Those that the scheduler has put aside; tried again at once when the node changes, if that was a while ago."""

    def aside(pod: Object) -> bool:
        return any(
            each["type"] == "PodScheduled"
            and each["status"] == "False"
            and time.time() - _time(each["lastTransitionTime"]) > 2
            for each in pod["status"].get("conditions", [])
        )

    return [pod for pod in world.list("pods", namespace) if aside(pod)]


def _time(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


def test_a_batch_that_is_granted_in_part_serves_those_it_can_and_the_others_go_on_to_the_next_offer(
    world: E2eWorld, namespace: str, slowly_booting: None
) -> None:
    before = {instance["id"] for instance in world.aws.instances()}
    names = [f"part-{number}" for number in range(BATCH)]
    # Bound together, they are launched together.
    world.kubectl("cordon", manifests.NODE)
    try:
        pods = [manifests.pod(name, namespace, annotations={TYPES: "t3a*"}) for name in names]
        world.apply(*pods)
        world.eventually(
            lambda: len(_unscheduled(world, namespace)) == BATCH, 30, "no pod can be bound", namespace
        )
        world.aws.forget_calls()
        world.aws.fail("RunInstances", max_grant=GRANTED)
    finally:
        world.kubectl("uncordon", manifests.NODE)

    def all_launched() -> dict[str, str]:
        return {name: world.instance_of(name, namespace) for name in names}

    instances = world.eventually(all_launched, 30, "every pod has an instance", namespace)
    launched = [one for one in world.aws.instances() if one["id"] not in before]
    assert sorted(instances.values()) == sorted(one["id"] for one in launched), "one for each, and no other"
    first = world.aws.calls("RunInstances")[0]
    assert first["count"] > GRANTED
    assert Counter(one["type"] for one in launched)[first["instance_type"]] == GRANTED
    for name in names[BOOTED:]:
        world.kubectl("delete", "pod", "-n", namespace, name, "--wait=false")
    for name in names[:BOOTED]:
        world.ready(name, namespace)


def test_more_calls_than_ec2_admits_are_made_more_slowly_and_all_pods_run(
    world: E2eWorld, namespace: str
) -> None:
    """Five kinds of machines are five calls; a bucket smaller than EC2's own lets two of them in at once."""
    kinds = ("m7i.large", "m7a.large", "c7i.large", "c7a.large", "r7i.large")
    world.aws.forget_calls()
    buckets: Any = {"RunInstances": {"request": [2, 0.5]}}
    world.aws.settings(throttle=buckets)
    names = {kind.replace(".", "-"): kind for kind in kinds}
    world.run(
        *(manifests.pod(name, namespace, annotations={TYPES: kind}) for name, kind in names.items()),
        timeout=90,
    )
    calls = world.aws.calls("RunInstances")
    assert sum(call["error"] == "RequestLimitExceeded" for call in calls) >= 1
    granted = Counter(call["instance_type"] for call in calls if not call["error"])
    assert granted == dict.fromkeys(kinds, 1)
