"""EC2 gives less than is asked for, or nothing: what pods get instead, and what people are told."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support import manifests
from support.cluster import Object
from support.world import E2eWorld

from kip.local.aws.backend import Site
from kip.local.images.oci import Image, write
from kip.local.registry import load
from kip.local.services import ZONES
from kip.model.names import TAG_LAUNCH

pytestmark = pytest.mark.e2e

TYPES, LAUNCH_TYPE = "pod.elotl.co/instance-type", "pod.elotl.co/launch-type"
BATCH, GRANTED, BOOTED = 20, 4, 4


def test_when_two_offers_are_sold_out_the_pod_runs_on_the_third_and_its_event_says_so(
    world: E2eWorld, namespace: str
) -> None:
    world.aws.forget_calls()
    world.aws.fail("RunInstances", error="InsufficientInstanceCapacity", count=2)
    world.run(manifests.pod("third", namespace, annotations={TYPES: "c5*"}))
    calls = world.aws.calls("RunInstances")
    errors = [call["error"] for call in calls]
    assert errors == ["InsufficientInstanceCapacity", "InsufficientInstanceCapacity", None]
    assert len({(call["instance_type"], call["subnet_id"]) for call in calls}) == 3
    message = world.told(namespace, "third", "CellLaunched", kind="Normal")
    chosen, _, refused = message.partition("refused were ")
    assert calls[2]["instance_type"] in chosen
    assert [each.partition(" ")[0] for each in refused.split("; ")] == [c["instance_type"] for c in calls[:2]]
    assert refused.count("InsufficientInstanceCapacity") == 2


class Refusal(NamedTuple):
    """How EC2 answers the first launches of an instance type that only one test asks for, and where its pod ends up."""

    code: str
    instance_type: str
    wish: str = "on-demand"
    count: int = 1
    market: str = "on-demand"


#: What only another offer can help against: the same type in the other zone, or on the other market.
REFUSALS = (
    Refusal("InstanceLimitExceeded", "m5.large"),
    Refusal("VcpuLimitExceeded", "m5a.large"),
    Refusal("Unsupported", "r5.large"),
    Refusal("InsufficientHostCapacity", "m6i.large", "dedicated"),
    Refusal("UnfulfillableCapacity", "c6i.large"),
    Refusal("SpotMaxPriceTooLow", "m6a.large", "spot", market="spot"),
    Refusal("MaxSpotInstanceCountExceeded", "c6a.large", "spot-preferred", count=2),
)


def test_what_only_another_offer_can_help_against_is_answered_by_one_at_once(
    world: E2eWorld, namespace: str
) -> None:
    world.aws.forget_calls()
    names = {refusal: refusal.code.lower() for refusal in REFUSALS}
    for code, kind, _, count, _ in REFUSALS:
        world.aws.fail("RunInstances", error=code, match={"InstanceType": kind}, count=count)
    world.run(
        *(
            manifests.pod(
                name,
                namespace,
                annotations={TYPES: refusal.instance_type, LAUNCH_TYPE: refusal.wish},
            )
            for refusal, name in names.items()
        ),
        timeout=120,
    )
    for refusal, name in names.items():
        calls = [c for c in world.aws.calls("RunInstances") if c["instance_type"] == refusal.instance_type]
        assert [call["error"] for call in calls] == [refusal.code] * refusal.count + [None]
        assert len({call["subnet_id"] for call in calls}) == 2
        instance = world.instance_of(name, namespace)
        [machine] = [one for one in world.instances() if one["id"] == instance]
        assert machine["market"] == refusal.market
        message = world.told(namespace, name, "CellLaunched", kind="Normal")
        assert message.count(refusal.code) == refusal.count, message


def zones(world: E2eWorld) -> dict[str, str]:
    """The subnets of cells, and the zone of each."""
    site = Site(cidr=world.world.cidr, zones=ZONES)
    return {subnet_id: zone for subnet_id, zone, _ in site.subnets()}


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
    assert sum(one["tags"][TAG_LAUNCH] == first["client_token"] for one in launched) == GRANTED
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


def test_an_image_for_arm64_alone_gets_such_a_machine_though_the_pod_says_nothing(
    world: E2eWorld, namespace: str, tmp_path: Path
) -> None:
    """It is launched, which is all that a host of another architecture can do for it."""
    image = Image(name="demo.kip.local/for-arm:1", architecture="arm64", programs={})
    write(image, tmp_path / "image.tar")
    load(tmp_path / "image.tar", world.world.url("registry"))
    world.apply(manifests.pod("arm", namespace, {"name": "main", "image": image.name}))
    message = world.told(namespace, "arm", "CellLaunched", kind="Normal")
    assert message.endswith("; the pod's images are built for arm64")
    [machine] = [one for one in world.aws.instances() if one["id"] == world.instance_of("arm", namespace)]
    assert "-arm64-" in machine["image_name"]


def test_a_subnet_without_free_addresses_is_left_for_the_other_zones(world: E2eWorld, namespace: str) -> None:
    """The last one here: the subnet stays left out for a while, for all pods."""
    world.aws.forget_calls()
    world.aws.fail("RunInstances", error="InsufficientFreeAddressesInSubnet")
    world.apply(manifests.pod("first", namespace))
    message = world.told(namespace, "first", "CellLaunched", kind="Normal")
    assert "InsufficientFreeAddressesInSubnet" in message
    world.apply(manifests.pod("second", namespace))
    for name in ("first", "second"):
        world.ready(name, namespace)
    refused, *granted = world.aws.calls("RunInstances")
    assert refused["error"] == "InsufficientFreeAddressesInSubnet"
    [other] = set(zones(world)) - {refused["subnet_id"]}
    assert [call["subnet_id"] for call in granted] == [other, other]
