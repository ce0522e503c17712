"""Machine images on EC2."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kip.cloud.base import Image, ImageSpec
from kip.cloud.errors import NotFound
from kip.cloud.sdk import Answer, Ec2Sdk, filters


class Ec2Images:
    """`kip.cloud.base.Images` over EC2."""

    def __init__(self, sdk: Ec2Sdk) -> None:
        self._sdk = sdk

    async def find(self, spec: ImageSpec) -> Image:
        parameters: dict[str, Any] = {"Filters": filters({"state": "available", **spec.filters})}
        if spec.ids:
            parameters["ImageIds"] = list(spec.ids)
        if spec.owners:
            parameters["Owners"] = list(spec.owners)
        if spec.executable_users:
            parameters["ExecutableUsers"] = list(spec.executable_users)
        images = [to_image(image) for image in await self._sdk.describe_images(**parameters)]
        if not images:
            raise NotFound(f"no machine image matches: {spec}", action="DescribeImages")
        # The name decides between images of the same second: the answer must not depend on AWS's order.
        return max(images, key=lambda image: (image.creation, image.name, image.id))


def to_image(answer: Answer) -> Image:
    """An image from AWS's description of it."""
    return Image(
        id=answer["ImageId"],
        name=answer.get("Name", ""),
        root_device_name=answer.get("RootDeviceName", "/dev/xvda"),
        architecture=answer["Architecture"],
        creation=datetime.fromisoformat(answer["CreationDate"]),
        root_volume_gib=_root_volume_gib(answer),
    )


def _root_volume_gib(answer: Answer) -> int:
    root = answer.get("RootDeviceName")
    mapped = (m for m in answer.get("BlockDeviceMappings") or () if m.get("DeviceName") == root)
    return next((int((m.get("Ebs") or {}).get("VolumeSize") or 0) for m in mapped), 0)
