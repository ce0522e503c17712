"""What every cloud promises about machine images."""

from __future__ import annotations

from typing import Any

import pytest

from kip.cloud.base import ImageSpec
from kip.cloud.errors import NotFound, Throttled

Cloud = Any

EKS = "602401143452"


async def test_the_newest_image_wins(cloud: Cloud) -> None:
    image = await cloud.images.find(
        ImageSpec(owners=(EKS,), filters={"name": ("amazon-eks-node-al2023-x86_64-standard-1.36-v*",)})
    )
    assert image.name == "amazon-eks-node-al2023-x86_64-standard-1.36-v20261105"
    assert image.architecture == "x86_64"
    assert image.root_device_name == "/dev/xvda"
    assert image.creation.tzinfo is not None


async def test_an_older_image_can_be_named(cloud: Cloud) -> None:
    old = await cloud.images.find(ImageSpec(filters={"name": ("*-arm64-standard-1.36-v20261020",)}))
    assert old.architecture == "arm64"
    assert (await cloud.images.find(ImageSpec(ids=(old.id,)))).id == old.id


@pytest.mark.parametrize(
    "spec",
    [
        ImageSpec(filters={"name": ("no-such-image-*",)}),
        ImageSpec(owners=("123123123123",), filters={"name": ("amazon-eks-node-*",)}),
        ImageSpec(ids=("ami-0123456789abcdef0",)),
    ],
    ids=str,
)
async def test_no_match_says_what_was_looked_for(cloud: Cloud, spec: ImageSpec) -> None:
    with pytest.raises(NotFound) as caught:
        await cloud.images.find(spec)
    looked_for = [*spec.ids, *spec.owners, *(value for values in spec.filters.values() for value in values)]
    assert all(part in str(caught.value) for part in looked_for)


async def test_throttling_is_no_missing_image(cloud: Cloud) -> None:
    cloud.troubles.fail("DescribeImages", "RequestLimitExceeded")
    with pytest.raises(Throttled):
        await cloud.images.find(ImageSpec(filters={"name": ("amazon-eks-node-*",)}))
