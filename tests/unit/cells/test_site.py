"""Where cells are put: asked of AWS once for all, and not again while it fails."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.doubles.samples import SITE_OPTIONS

from kip.cells.site import Sites, ec2_architecture, variant_of
from kip.cloud import catalogue
from kip.cloud.base import ImageSpec
from kip.cloud.errors import (
    InvalidRequest,
    NotAuthorized,
    NotFound,
    Throttled,
    Unreachable,
)
from kip.cloud.fake import FakeCloud
from kip.model.clock import ManualClock
from kip.model.hugepages import HugePages


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.cloud = FakeCloud(clock=self.clock)
        self.made: list[str] = []

    def user_data(self, cidrs, variant, huge_pages) -> bytes:
        self.made.append(f"{variant}: {' '.join(cidrs)} {huge_pages}")
        return self.made[-1].encode()

    def sites(self, **changes) -> Sites:
        options = replace(SITE_OPTIONS, **changes)
        return Sites(
            self.cloud,
            self.cloud,
            self.clock,
            options,
            user_data=self.user_data,
        )


@pytest.fixture
def world():
    return World()


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
    assert world.made == ["standard: 10.0.0.0/18 ()", "nvidia: 10.0.0.0/18 ()"], "before anybody wants it"
    assert site.user_data("nvidia", ()) == b"nvidia: 10.0.0.0/18 ()"
    pages = (HugePages("hugepages-1Gi", 2),)
    assert site.user_data("standard", pages) == f"standard: 10.0.0.0/18 {pages}".encode()
    site.user_data("standard", pages)
    assert len(world.made) == 3, "once for all who want the same"


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


def test_gpus_of_other_makers_boot_the_standard_image():
    types = {kind.name: kind for kind in catalogue.load("us-east-1")}
    assert variant_of(types["g4dn.xlarge"]) == variant_of(types["g5g.xlarge"]) == "nvidia"
    radeon = replace(types["g4dn.xlarge"], gpu_manufacturer="AMD")
    assert variant_of(radeon) == variant_of(types["m7g.large"]) == "standard"
