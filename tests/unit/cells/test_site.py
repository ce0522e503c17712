"""Where cells are put: asked of AWS once for all, and not again while it fails."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from kip.cells.launch import NoOffer
from kip.cells.plan import PlanOptions, SelectingPlanner
from kip.cells.site import SiteOptions, Sites, ec2_architecture, variant_of
from kip.cloud import catalogue
from kip.cloud.base import ImageSpec
from kip.cloud.errors import (
    InsufficientCapacity,
    InvalidRequest,
    NotAuthorized,
    NotFound,
    SubnetFull,
    Throttled,
    Unreachable,
)
from kip.cloud.fake import FakeCloud
from kip.cloud.unavailable import UnavailableOfferings
from kip.model.cell import Intent
from kip.model.clock import ManualClock

OPTIONS = SiteOptions(cluster="blue", kubernetes_minor="1.36")


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.cloud = FakeCloud(clock=self.clock)

    def sites(self, **changes) -> Sites:
        options = replace(OPTIONS, **changes)
        return Sites(
            self.cloud,
            self.cloud,
            self.clock,
            options,
            user_data=lambda cidrs, variant: f"{variant}: {' '.join(cidrs)}".encode(),
        )

    def planner(self, **changes) -> SelectingPlanner:
        options = PlanOptions(region="us-east-1", default_instance_type="t3.nano", default_volume_bytes=0)
        return SelectingPlanner(self.sites(), UnavailableOfferings(), replace(options, **changes))


@pytest.fixture
def world():
    return World()


def pod(annotations: dict | None = None, **requests: str) -> dict:
    return {
        "metadata": {"name": "web", "namespace": "shop", "uid": "u", "annotations": annotations or {}},
        "spec": {"containers": [{"name": "main", "resources": {"requests": requests}}]},
    }


async def test_a_site_is_found_once_for_all_who_ask_and_again_after_a_minute(world):
    sites = world.sites()
    found = await asyncio.gather(*(sites.current() for _ in range(50)))
    assert all(site is found[0] for site in found)
    assert len(world.cloud.called("DescribeSubnets")) == 1
    await world.clock.advance(61)
    await sites.current()
    assert len(world.cloud.called("DescribeSubnets")) == 2


async def test_a_site_has_subnets_groups_ranges_and_user_data(world):
    site = await world.sites(extra_security_groups=("sg-mine",)).current()
    assert {s.zone for s in site.subnets} == {"us-east-1a", "us-east-1b"}
    assert site.security_group_ids[-1] == "sg-mine"
    assert len(site.security_group_ids) == 2
    assert site.user_data == {
        "standard": b"standard: 10.0.0.0/18",
        "nvidia": b"nvidia: 10.0.0.0/18",
    }


async def test_an_error_is_the_answer_to_all_who_stand_in_line_and_not_for_long(world):
    world.cloud.fail("DescribeSubnets", Unreachable("timed out"))
    sites = world.sites()
    results = await asyncio.gather(*(sites.current() for _ in range(50)), return_exceptions=True)
    assert all(isinstance(r, Unreachable) for r in results)
    assert len(world.cloud.called("DescribeSubnets")) == 1
    await world.clock.advance(2.1)
    assert (await sites.current()).subnets


@pytest.mark.parametrize("error", [Throttled("slow down"), Unreachable("timed out")])
async def test_what_was_found_counts_for_some_minutes_while_aws_cannot_be_asked(world, error):
    sites = world.sites()
    site, image = await sites.current(), await sites.image("amd64")
    await world.clock.advance(601)
    world.cloud.fail("DescribeSubnets", error, times=1000)
    world.cloud.fail("DescribeImages", error, times=1000)
    assert await sites.current() is site
    assert await sites.image("amd64") is image
    await world.clock.advance(600)
    with pytest.raises(type(error)):
        await sites.current()


async def test_a_clear_answer_replaces_what_was_found_before(world):
    sites = world.sites()
    await sites.current()
    await world.clock.advance(61)
    world.cloud.fail("DescribeSubnets", NotAuthorized("no", action="DescribeSubnets"))
    with pytest.raises(NotAuthorized):
        await sites.current()


async def test_what_is_to_be_forgotten_is_asked_for_again(world):
    sites = world.sites()
    await sites.current(), await sites.image("amd64")
    sites.forget()
    await sites.current(), await sites.image("amd64")
    assert len(world.cloud.called("DescribeSubnets")) == 2
    assert len(world.cloud.called("DescribeImages")) == 2


async def test_a_subnet_of_another_vpc_than_the_configured_one_is_refused_by_name(world):
    subnet = (await world.cloud.subnets())[0]
    with pytest.raises(InvalidRequest, match=rf"{subnet.id} is in vpc-fake, .*vpcID says vpc-other"):
        await world.sites(subnet_ids=(subnet.id,), vpc_id="vpc-other").current()
    assert (await world.sites(subnet_ids=(subnet.id,), vpc_id="vpc-fake").current()).subnets == (subnet,)


async def test_a_security_group_that_was_deleted_is_made_again(world):
    sites = world.sites()
    before = (await sites.current()).security_group_ids
    world.cloud._groups.clear()
    world.cloud._groups["other", "x"] = "sg-taken"
    await world.clock.advance(61)
    after = (await sites.current()).security_group_ids
    assert after != before
    assert after[0] in world.cloud._groups.values()


async def test_subnets_by_their_tags(world):
    by_tag = world.sites(subnet_tags={"kip-local": "true"}, vpc_id="default")
    assert len((await by_tag.current()).subnets) == 2
    with pytest.raises(
        NotFound, match=r"no subnet in vpc-fake has the tags kip-local=false \(cloud.aws.subnetTags\)"
    ):
        await world.sites(subnet_tags={"kip-local": "false"}, vpc_id="vpc-fake").current()


async def test_subnets_of_several_vpcs_are_named(world):
    class Elsewhere(FakeCloud):
        async def subnets(self, **which):
            one, other = await super().subnets(**which)
            return [one, replace(other, vpc_id="vpc-2")]

    world.cloud = Elsewhere(clock=world.clock)
    with pytest.raises(InvalidRequest, match=r"subnetTags \(set vpcID too\): all .* in one VPC, .* in vpc-2"):
        await world.sites(subnet_tags={"kip-local": "true"}).current()


async def test_an_unknown_subnet_or_none_at_all_is_said(world):
    with pytest.raises(NotFound, match="subnet-none"):
        await world.sites(subnet_ids=("subnet-none",)).current()
    with pytest.raises(NotFound, match="no subnets in vpc-other"):
        await world.sites(vpc_id="vpc-other").current()


async def test_an_image_for_another_architecture_is_refused_in_words(world):
    sites = world.sites(image=ImageSpec(ids=(world.cloud.images[0].image.id,)))
    architecture = "arm64" if world.cloud.images[0].image.architecture == "x86_64" else "amd64"
    with pytest.raises(InvalidRequest, match=r"cells\.bootImageSpec"):
        await sites.image(architecture)


async def test_an_image_is_looked_for_rarely(world):
    sites = world.sites()
    for _ in range(20):
        await sites.image("amd64")
        await world.clock.advance(29)
    assert len(world.cloud.called("DescribeImages")) == 1
    await world.clock.advance(60)
    await sites.image("amd64")
    assert len(world.cloud.called("DescribeImages")) == 2


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
async def test_each_variant_of_the_eks_image_is_found_by_its_name(world, architecture):
    sites = world.sites()
    found = {await sites.image(architecture), await sites.image(architecture, "nvidia")}
    names = sorted(image.name for image in found)
    ec2 = ec2_architecture(architecture)
    assert names == [
        f"amazon-eks-node-al2023-{ec2}-nvidia-1.36-v20261105",
        f"amazon-eks-node-al2023-{ec2}-standard-1.36-v20261105",
    ]


async def test_an_image_of_ones_own_is_for_machines_with_gpus_too(world):
    sites = world.sites(image=ImageSpec(ids=(world.cloud.images[0].image.id,)))
    architecture = "amd64" if world.cloud.images[0].image.architecture == "x86_64" else "arm64"
    assert await sites.image(architecture, "nvidia") == await sites.image(architecture)


async def test_a_machine_with_nvidia_gpus_boots_their_image_and_is_told_of_them(world):
    plain = (await world.planner().plan(pod(cpu="1")))[0]
    [first, *_] = await world.planner().plan(pod(**{"nvidia.com/gpu": "1"}))
    images = {fake.image.id: fake.image.name for fake in world.cloud.images}
    assert "-nvidia-" in images[first.image_id]
    assert "-standard-" in images[plain.image_id]
    assert (first.user_data[:7], plain.user_data[:9]) == (b"nvidia:", b"standard:")


def test_gpus_of_other_makers_boot_the_standard_image():
    types = {kind.name: kind for kind in catalogue.load("us-east-1")}
    assert variant_of(types["g4dn.xlarge"]) == variant_of(types["g5g.xlarge"]) == "nvidia"
    radeon = replace(types["g4dn.xlarge"], gpu_manufacturer="AMD")
    assert variant_of(radeon) == variant_of(types["m7g.large"]) == "standard"


async def test_a_plan_is_the_same_for_equal_pods(world):
    planner = world.planner()
    one, other = await planner.plan(pod(cpu="1")), await planner.plan(pod(cpu="1"))
    assert one == other
    assert len(one) > 1
    assert one[0].digest() == other[0].digest()
    assert len({spec.digest() for spec in one}) == len(one)


async def test_what_is_sold_out_is_left_out(world):
    planner = world.planner()
    first = (await planner.plan(pod(cpu="1")))[0]
    planner.unavailable(first, InsufficientCapacity("none"))
    again = await planner.plan(pod(cpu="1"))
    assert (first.instance_type, first.zone) not in {(s.instance_type, s.zone) for s in again}


async def test_a_pod_that_fits_nothing_or_asks_nonsense_is_told_why(world):
    planner = world.planner()
    with pytest.raises(NoOffer) as too_big:
        await planner.plan(pod(cpu="100000"))
    assert too_big.value.reason == "NoInstanceFits"
    with pytest.raises(NoOffer) as nonsense:
        await planner.plan(pod({"pod.elotl.co/launch-type": "sideways"}))
    assert nonsense.value.reason == "InvalidAnnotation"


async def test_a_full_subnet_gives_way_to_another_one_and_when_all_are_full_that_is_said(world):
    planner = world.planner()
    first = (await planner.plan(pod(cpu="1")))[0]
    assert not planner.left_out(first)
    planner.unavailable(first, SubnetFull("none", action="RunInstances"))
    assert planner.left_out(first)
    again = await planner.plan(pod(cpu="1"))
    assert first.subnet_id not in {s.subnet_id for s in again}
    planner.unavailable(again[0], SubnetFull("none", action="RunInstances"))
    with pytest.raises(NoOffer, match=first.subnet_id) as full:
        await planner.plan(pod(cpu="1"))
    assert full.value.reason == "SubnetFull"


async def test_the_request_of_a_pod_that_asks_nonsense_by_now_cannot_be_made_again(world):
    [first, *_] = await world.planner().plan(pod(cpu="1"))
    assert (
        await world.planner().replan(pod({"pod.elotl.co/launch-type": "sideways"}), intent_of(first)) is None
    )
    planner = world.planner()
    world.cloud.fail("DescribeImages", NotFound("none"))
    assert await planner.replan(pod(cpu="1"), intent_of(first)) is None
    world.cloud.fail("DescribeImages", Unreachable("timed out"))
    await world.clock.advance(3)
    with pytest.raises(Unreachable):
        await planner.replan(pod(cpu="1"), intent_of(first))


def intent_of(spec) -> Intent:
    return Intent(
        client_token="t",
        attempt=1,
        count=1,
        index=0,
        instance_type=spec.instance_type,
        subnet_id=spec.subnet_id,
        zone=spec.zone,
        market=spec.market,
        image_id=spec.image_id,
        parameters_sha256=spec.digest(),
        requested_at=ManualClock().now(),
    )


async def test_the_request_of_an_intent_is_found_again_by_another_process(world):
    [first, *_] = await world.planner().plan(pod(cpu="1"))
    again = await world.planner().replan(pod(cpu="1"), intent_of(first))
    assert again is not None
    assert again.digest() == first.digest()


async def test_a_request_that_cannot_be_made_again_is_none(world):
    [first, *_] = await world.planner().plan(pod(cpu="1"))
    gone = replace(intent_of(first), subnet_id="subnet-gone")
    assert await world.planner().replan(pod(cpu="1"), gone) is None
    unknown = replace(intent_of(first), instance_type="t9.huge")
    assert await world.planner().replan(pod(cpu="1"), unknown) is None


async def test_a_pod_with_a_role_reaches_the_metadata_service_and_others_do_not(world):
    plain = (await world.planner().plan(pod(cpu="1")))[0]
    roled = (await world.planner(instance_profile="web").plan(pod(cpu="1")))[0]
    assert (plain.hop_limit, roled.hop_limit) == (1, 2)
    assert (plain.instance_profile, roled.instance_profile) == (None, "web")


def test_what_a_machine_has_is_known_for_known_types(world):
    planner = world.planner()
    assert planner.capacity("t3.micro")["cpu"] == "2"
    assert planner.capacity("t9.huge") == {}
    assert planner.price("t3.micro", "us-east-1a", "on-demand") is not None
    assert planner.price("t3.micro", "us-east-1a", "spot") is None, "never a price that is made up"
