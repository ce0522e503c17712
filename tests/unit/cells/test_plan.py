"""From a pod to requests: what is configured, what is known of the market, and what the pod says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from tests.doubles.samples import PLAN_OPTIONS, intent, planner

from kip.cells.launch import NoOffer
from kip.cells.spec import LaunchSpec
from kip.cloud import catalogue, instance_data
from kip.cloud.base import Subnet
from kip.cloud.errors import InsufficientCapacity, NotFound, SubnetFull, Unreachable
from kip.cloud.fake import FakeCloud
from kip.model.cell import Intent
from kip.model.clock import ManualClock
from kip.model.instance_type import InstanceType
from kip.model.market import MarketData
from kip.pods.annotations import Layer
from kip.pods.architecture import OfImages
from kip.pods.spread import Neighbour

ZONE_IDS = {"us-east-1a": "use1-az3", "us-east-1b": "use1-az4"}


class NamedZones(FakeCloud):
    """A cloud that tells which zones its subnets are really in."""

    async def subnets(self, **which: Any) -> list[Subnet]:
        return [replace(subnet, zone_id=ZONE_IDS[subnet.zone]) for subnet in await super().subnets(**which)]


def intent_of(spec: LaunchSpec) -> Intent:
    return intent(
        instance_type=spec.instance_type,
        subnet_id=spec.subnet_id,
        zone=spec.zone,
        market=spec.launch_type,
        image_id=spec.image_id,
    )


def pod(launch_type: str | None = None, **spec: Any) -> dict[str, Any]:
    annotations = {"pod.elotl.co/launch-type": launch_type} if launch_type else {}
    container = {"name": "main", "resources": {"requests": {"cpu": "1", "memory": "2Gi"}}}
    return {
        "metadata": {"name": "web", "namespace": "shop", "uid": "u", "annotations": annotations},
        "spec": {"containers": [container], **spec},
    }


def requesting(**requests: str) -> dict[str, Any]:
    return pod(containers=[{"name": "main", "resources": {"requests": requests}}])


async def test_a_zone_is_not_asked_for_what_it_does_not_have() -> None:
    """use1-az3 is the oldest zone of us-east-1, with a twentieth of the types."""
    assert {spec.zone for spec in await planner().plan(pod())} == {"us-east-1a", "us-east-1b"}
    assert {spec.zone for spec in await planner(NamedZones()).plan(pod())} == {"us-east-1b"}


async def test_what_was_foreseen_is_planned_once_and_used_once() -> None:
    subject, ours = planner(), pod()
    before = await subject.plan(ours)
    subject.refresh(MarketData(spot={("r7i.large", "us-east-1b"): 0.001}))
    await subject.foresee(ours)
    with mock.patch.object(subject, "_plan", side_effect=AssertionError):
        again = await subject.plan(ours)
        assert again == before
        with pytest.raises(AssertionError):
            await subject.plan(ours)


@pytest.mark.parametrize("what", ["another pod", "refused", "another site", "other prices"])
async def test_what_was_foreseen_is_forgotten_when_something_changes(what: str) -> None:
    clock = ManualClock()
    subject, ours = planner(clock=clock), pod()
    await subject.foresee(ours)
    [first, *_] = await subject.plan(ours)
    await subject.foresee(ours)
    match what:
        case "another pod":
            ours = requesting(cpu="8")
        case "refused":
            subject.unavailable(first, InsufficientCapacity("none left"))
        case "another site":
            subject.forget_site()
        case "other prices":
            subject.refresh(MarketData(on_demand={first.instance_type: 100.0}))
    with mock.patch.object(subject, "_plan", wraps=subject._plan) as planned:
        await subject.plan(ours)
    assert planned.await_count == 1


async def test_what_ec2_says_of_a_zone_counts_before_the_catalogue() -> None:
    subject = planner(NamedZones())
    subject.refresh(MarketData(offered={"us-east-1a": frozenset({"c6i.xlarge"}), "us-east-1b": frozenset()}))
    assert {(s.instance_type, s.zone) for s in await subject.plan(pod())} == {("c6i.xlarge", "us-east-1a")}


async def test_spot_prices_decide_once_they_are_known() -> None:
    subject = planner()
    subject.refresh(MarketData(spot={("r7i.large", "us-east-1b"): 0.001}))
    first, *others = await subject.plan(pod("spot"))
    assert (first.instance_type, first.zone, first.market) == ("r7i.large", "us-east-1b", "spot")
    assert {spec.market for spec in others} == {"spot"}
    assert first.why.startswith("chose r7i.large in us-east-1b, spot $0.001/h; ")
    assert {spec.why for spec in others} == {first.why}
    assert subject.price("r7i.large", "us-east-1b", "spot") == "0.001"
    assert subject.price("r7i.large", "us-east-1a", "spot") is None


async def test_spot_preferred_has_on_demand_in_the_same_go() -> None:
    markets = [spec.market for spec in await planner().plan(pod("spot-preferred"))]
    assert markets == ["spot"] * 6 + ["on-demand"] * 2


async def test_dedicated_is_launched_on_hardware_of_ones_own() -> None:
    subject = planner()
    first, *others = await subject.plan(pod("dedicated"))
    assert all(spec.dedicated and spec.market == "on-demand" for spec in (first, *others))
    assert str(first).endswith(", dedicated")
    assert first.request(client_token="t", count=1, tags={}).dedicated
    assert first.digest() != replace(first, dedicated=False).digest()
    assert subject.price(first.instance_type, first.zone, "dedicated") is None, (
        "never a price that is made up"
    )


async def test_hardware_of_ones_own_and_shared_hardware_run_out_apart() -> None:
    subject = planner()
    first = (await subject.plan(pod("dedicated")))[0]
    subject.unavailable(first, InsufficientCapacity("none"))
    assert first not in await subject.plan(pod("dedicated"))
    assert replace(first, dedicated=False) in await subject.plan(pod())


async def test_the_intent_of_a_dedicated_launch_is_repeated_as_such() -> None:
    subject = planner()
    first = (await subject.plan(pod("dedicated")))[0]
    again = await subject.replan(pod("dedicated"), intent_of(first))
    assert again == first


async def test_configured_types() -> None:
    options = replace(PLAN_OPTIONS, allowed_types=("m*",), excluded_types=("m7*", "m8*"))
    families = {spec.instance_type.partition(".")[0] for spec in await planner(options=options).plan(pod())}
    assert families
    assert all(family[:2] not in ("m7", "m8") and family[0] == "m" for family in families)


async def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "instances.yaml"
    path.write_text(
        "us-east-1: [{instanceType: m7i.xlarge, price: 0.0001, spotPrice: 0.00005, dedicatedPrice: 0.0002}]"
    )
    subject = planner(options=replace(PLAN_OPTIONS, instance_data=instance_data.of(path, "us-east-1")))
    assert (await subject.plan(pod()))[0].instance_type == "m7i.xlarge"
    assert subject.price("m7i.xlarge", "us-east-1a", "on-demand") == "0.0001"
    assert subject.price("m7i.xlarge", "us-east-1a", "spot") == "0.00005"
    assert subject.price("m7i.xlarge", "us-east-1a", "dedicated") == "0.0002"
    # Newer facts do not push it aside.
    subject.refresh(MarketData(on_demand={"m7i.xlarge": 5.0}))
    assert (await subject.plan(pod()))[0].instance_type == "m7i.xlarge"
    assert subject.price("m7i.xlarge", "us-east-1a", "on-demand") == "0.0001"


async def test_types_that_ec2_tells_replace_the_built_in_ones() -> None:
    subject = planner()
    new = InstanceType(
        name="m99i.large",
        vcpus=2,
        memory_mib=8192,
        architecture="amd64",
        max_enis=3,
        max_ipv4_per_eni=10,
        usd_per_hour=0.05,
    )
    subject.refresh(MarketData(), [new])
    assert {spec.instance_type for spec in await subject.plan(pod())} == {"m99i.large"}
    subject.refresh(MarketData())
    assert "m99i.large" not in {spec.instance_type for spec in await subject.plan(pod())}


class Elsewhere:
    """Volumes in one zone, neighbours in another; notes what it is told."""

    def __init__(
        self, volume_zones: frozenset[str] | None = None, neighbours: tuple[Neighbour, ...] = ()
    ) -> None:
        self._volume_zones = volume_zones
        self._neighbours = neighbours
        self.expected: list[str | None] = []

    async def volume_zones(self, pod: Any) -> frozenset[str] | None:
        return self._volume_zones

    def neighbours(self, pod: Any) -> tuple[Neighbour, ...]:
        return self._neighbours

    def expect(self, pod: Any, zone: str | None) -> None:
        self.expected.append(zone)


SPREAD = {
    "topologyKey": "topology.kubernetes.io/zone",
    "maxSkew": 1,
    "whenUnsatisfiable": "DoNotSchedule",
    "labelSelector": {},
}


async def test_a_machine_is_where_the_pods_volumes_are() -> None:
    around = Elsewhere(frozenset({"us-east-1b"}))
    specs = await planner(around=around).plan(pod())
    assert {spec.zone for spec in specs} == {"us-east-1b"}
    assert around.expected == ["us-east-1b"]
    assert all(" in us-east-1b, " in spec.why for spec in specs)


async def test_a_machine_is_not_where_enough_neighbours_are() -> None:
    around = Elsewhere(neighbours=(Neighbour({}, "us-east-1a"),))
    specs = await planner(around=around).plan(pod(topologySpreadConstraints=[SPREAD]))
    assert {spec.zone for spec in specs} == {"us-east-1b"}


async def test_nobody_counts_on_a_pod_that_gets_no_machine() -> None:
    around = Elsewhere(frozenset({"us-east-1f"}))
    with pytest.raises(NoOffer, match="the pod's volumes are in us-east-1f"):
        await planner(around=around).plan(pod())
    assert around.expected == [None]


async def test_a_default_that_is_in_the_way_is_named() -> None:
    mistyped = Layer("namespace shop", {"pod.elotl.co/instance-type": "m7i.lareg"})
    with pytest.raises(NoOffer, match=r"pod\.elotl\.co/instance-type=m7i\.lareg of namespace shop"):
        await planner(defaults=lambda pod: (mistyped,)).plan(pod())


async def test_what_a_pod_inherits_and_where_its_volumes_are_count_together() -> None:
    inherited = Layer("namespace shop", {"pod.elotl.co/instance-profile": "web"})
    around = Elsewhere(frozenset({"us-east-1b"}))
    subject = planner(around=around, defaults=lambda pod: (inherited,))
    first, *others = await subject.plan(pod())
    assert {(spec.zone, spec.instance_profile) for spec in (first, *others)} == {("us-east-1b", "web")}
    assert await subject.replan(pod(), intent_of(first)) == first


async def test_why_there_is_nothing() -> None:
    elsewhere = {"topology.kubernetes.io/zone": "us-east-1f"}
    with pytest.raises(NoOffer, match=r"wants topology\.kubernetes\.io/zone=us-east-1f, and cells can be in"):
        await planner().plan(pod(nodeSelector=elsewhere))


async def test_a_machine_with_nvidia_gpus_boots_their_image_and_is_told_of_them() -> None:
    cloud = FakeCloud()
    plain = (await planner(cloud).plan(pod()))[0]
    [first, *_] = await planner(cloud).plan(requesting(**{"nvidia.com/gpu": "1"}))
    images = {fake.image.id: fake.image.name for fake in cloud.images}
    assert "-nvidia-" in images[first.image_id]
    assert "-standard-" in images[plain.image_id]
    assert (first.user_data, plain.user_data) == (b"('nvidia', ())", b"('standard', ())")


async def test_machines_with_huge_pages_are_told_at_boot_and_launched_apart() -> None:
    subject = planner()
    plain = (await subject.plan(pod()))[0]
    huge = {"cpu": "1", "memory": "2Gi", "hugepages-2Mi": "3Mi", "hugepages-1Gi": "2Gi"}
    one, other = (await subject.plan(requesting(**huge)))[0], (await subject.plan(requesting(**huge)))[0]
    assert b"resource='hugepages-2Mi', number=2" in one.user_data
    assert b"resource='hugepages-1Gi', number=2" in one.user_data
    assert one == other
    assert one.user_data != plain.user_data
    again = await subject.replan(requesting(**huge), intent_of(one))
    assert again == one


async def test_a_plan_is_the_same_for_equal_pods() -> None:
    subject = planner()
    one, other = await subject.plan(pod()), await subject.plan(pod())
    assert one == other
    assert len(one) > 1
    assert one[0].digest() == other[0].digest()
    assert len({spec.digest() for spec in one}) == len(one)


async def test_what_is_sold_out_is_left_out() -> None:
    subject = planner()
    first = (await subject.plan(pod()))[0]
    subject.unavailable(first, InsufficientCapacity("none"))
    again = await subject.plan(pod())
    assert (first.instance_type, first.zone) not in {(s.instance_type, s.zone) for s in again}


async def test_a_pod_that_fits_nothing_or_asks_nonsense_is_told_why() -> None:
    subject = planner()
    with pytest.raises(NoOffer) as too_big:
        await subject.plan(requesting(cpu="100000"))
    assert too_big.value.reason == "NoInstanceFits"
    with pytest.raises(NoOffer) as nonsense:
        await subject.plan(pod("sideways"))
    assert nonsense.value.reason == "InvalidAnnotation"


async def test_a_full_subnet_gives_way_to_another_one_and_when_all_are_full_that_is_said() -> None:
    subject = planner()
    first = (await subject.plan(pod()))[0]
    assert not subject.left_out(first)
    subject.unavailable(first, SubnetFull("none", action="RunInstances"))
    assert subject.left_out(first)
    again = await subject.plan(pod())
    assert first.subnet_id not in {s.subnet_id for s in again}
    subject.unavailable(again[0], SubnetFull("none", action="RunInstances"))
    with pytest.raises(NoOffer, match=first.subnet_id) as full:
        await subject.plan(pod())
    assert full.value.reason == "SubnetFull"


async def test_the_request_of_a_pod_that_asks_nonsense_by_now_cannot_be_made_again() -> None:
    [first, *_] = await planner().plan(pod())
    assert await planner().replan(pod("sideways"), intent_of(first)) is None
    clock, cloud = ManualClock(), FakeCloud()
    subject = planner(cloud, clock=clock)
    cloud.fail("DescribeImages", NotFound("none"))
    assert await subject.replan(pod(), intent_of(first)) is None
    cloud.fail("DescribeImages", Unreachable("timed out"))
    await clock.advance(3)
    with pytest.raises(Unreachable):
        await subject.replan(pod(), intent_of(first))


async def test_the_request_of_an_intent_is_found_again_by_another_process() -> None:
    [first, *_] = await planner().plan(pod())
    again = await planner().replan(pod(), intent_of(first))
    assert again is not None
    assert again.digest() == first.digest()


async def test_a_request_that_cannot_be_made_again_is_none() -> None:
    [first, *_] = await planner().plan(pod())
    gone = replace(intent_of(first), subnet_id="subnet-gone")
    assert await planner().replan(pod(), gone) is None
    unknown = replace(intent_of(first), instance_type="t9.huge")
    assert await planner().replan(pod(), unknown) is None


async def test_a_pod_with_a_role_reaches_the_metadata_service_and_others_do_not() -> None:
    plain = (await planner().plan(pod()))[0]
    roled = (await planner(options=replace(PLAN_OPTIONS, instance_profile="web")).plan(pod()))[0]
    assert (plain.hop_limit, roled.hop_limit) == (1, 2)
    assert (plain.instance_profile, roled.instance_profile) == (None, "web")


def test_what_a_machine_has_is_known_for_known_types() -> None:
    subject = planner()
    assert subject.capacity("t3.micro")["cpu"] == "2"
    assert subject.capacity("t9.huge") == {}
    assert subject.price("t3.micro", "us-east-1a", "on-demand") is not None
    assert subject.price("t3.micro", "us-east-1a", "spot") is None, "never a price that is made up"


def built_for(*architectures: str, told: str = "") -> Any:
    async def built(pod: Any) -> OfImages:
        return OfImages(frozenset(architectures), told)

    return built


async def test_what_the_images_are_built_for_counts_and_is_told() -> None:
    subject = planner(built=built_for("arm64", told="the pod's images are built for arm64"))
    specs = await subject.plan(pod())
    types = {kind.name: kind.architecture for kind in catalogue.load("us-east-1")}
    assert {types[spec.instance_type] for spec in specs} == {"arm64"}
    assert all(spec.why.endswith("; the pod's images are built for arm64") for spec in specs)


async def test_who_names_an_instance_type_knows_better_than_an_images_label() -> None:
    named = {
        **pod(),
        "metadata": {**pod()["metadata"], "annotations": {"pod.elotl.co/instance-type": "m7i.large"}},
    }
    specs = await planner(built=built_for("arm64")).plan(named)
    assert {spec.instance_type for spec in specs} == {"m7i.large"}
    assert "(as the pod asks for it, though its image is for arm64)" in specs[0].why
    named["metadata"]["annotations"]["pod.elotl.co/instance-type"] = "m7*.large"
    specs = await planner(built=built_for("arm64")).plan(named)
    assert {spec.instance_type.partition(".")[0] for spec in specs} <= {"m7g", "m7gd"}


async def test_the_default_type_is_nobodys_wish() -> None:
    subject = planner(built=built_for("arm64"))
    types = {kind.name: kind.architecture for kind in catalogue.load("us-east-1")}
    specs = await subject.plan(requesting())
    assert {types[spec.instance_type] for spec in specs} == {"arm64"}
    assert "(not the default t3.nano: the pod's image is for arm64" in specs[0].why


async def test_images_that_no_machine_can_run_are_said() -> None:
    with pytest.raises(NoOffer, match="the pod's image is for an architecture that EC2 does not have"):
        await planner(built=built_for()).plan(pod())
