"""The launch that is tried is the one that a pod would get."""

from __future__ import annotations

from dataclasses import replace

from patient import healthy, image

from kip.cloud.base import LaunchRequest
from kip.doctor.facts import CONFIGURED, NOT_ASKED, Facts, Unanswered
from kip.doctor.look.dryruns import launch_request
from kip.model import names


def request(facts: Facts) -> LaunchRequest:
    found = launch_request(facts)
    assert not isinstance(found, Unanswered)
    assert found.problem() is None
    return found


def test_it_is_a_cell_of_this_cluster_in_its_groups() -> None:
    found = request(healthy())
    assert found.tags[names.TAG_CLUSTER] == "shop"
    assert found.security_group_ids == ("sg-1", "sg-eks")
    assert (found.subnet_id, found.instance_type, found.root_volume_gib) == ("subnet-1", "t3.small", 20)


def test_its_image_is_for_the_default_type() -> None:
    images = {name: replace(image(), id=f"ami-{name}") for name in ("amd64 standard", "arm64 standard")}
    arm = {"cells": {"defaultInstanceType": "t4g.small"}}
    assert request(healthy(images=images)).image_id == "ami-amd64 standard"
    assert request(healthy(arm, images=images)).image_id == "ami-arm64 standard"
    assert request(healthy(arm, images={CONFIGURED: image()})).image_id == "ami-1"


def test_a_group_that_is_not_there_yet_is_left_out() -> None:
    assert request(healthy(own_group=None)).security_group_ids == ("sg-eks",)


def test_without_a_place_an_image_or_a_name_there_is_nothing_to_try() -> None:
    missing = Unanswered("missing", "no")
    assert launch_request(healthy(subnets=missing)) == NOT_ASKED
    assert launch_request(healthy(images={"amd64 standard": missing})) == NOT_ASKED
    assert launch_request(healthy(cluster=missing)) == NOT_ASKED
