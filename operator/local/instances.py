"""What EC2 has in a local world, told as `aws ec2 describe-instances` would."""

from __future__ import annotations

import asyncio

from kip.cloud.base import ALL_STATES, Instance
from kip.cloud.ec2 import Ec2Compute
from kip.cloud.errors import CloudError
from kip.cloud.sdk import SdkSettings, open_ec2
from kip.local.provider import REGION
from kip.local.world import World, WorldError


def describe(world: World) -> list[Instance]:
    """All instances, those first that were launched first; terminated ones too as long as EC2 shows them.

    Raises:
        WorldError: the AWS endpoint does not answer.
    """
    found = asyncio.run(_describe(world))
    return sorted(found, key=lambda instance: (instance.launch_time, instance.launch_index))


async def _describe(world: World) -> list[Instance]:
    settings = SdkSettings(
        region=REGION, endpoint_url=world.url("aws"), access_key_id="local", secret_access_key="local"
    )
    try:
        async with open_ec2(settings) as sdk:
            return list(await Ec2Compute(sdk).describe(tags={}, states=ALL_STATES))
    except CloudError as error:
        raise WorldError(f"the AWS endpoint of world {world.name!r}: {error}") from error
