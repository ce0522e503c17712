"""Where cells go when provider.yaml does not say it: where Kip itself runs, and never somewhere by chance."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kip.app.cluster import CannotStart
from kip.cloud.metadata import Whereabouts
from kip.config import Aws


@dataclass(frozen=True)
class Location:
    """A region, and in it either subnets or a VPC (None: the account's default one)."""

    region: str
    subnet_ids: tuple[str, ...]
    vpc_id: str | None


async def locate(aws: Aws, whereabouts: Callable[[], Awaitable[Whereabouts | None]]) -> Location:
    """What is configured, completed by where this process runs; raises CannotStart naming the missing keys."""
    placed = bool(aws.subnet_ids or aws.vpc_id)
    if aws.region and placed:
        return Location(aws.region, aws.subnet_ids, aws.vpc_id)
    here = await whereabouts()
    if here is None:
        missing = [
            key
            for key, known in (("cloud.aws.region", aws.region), ("cloud.aws.subnetID (or vpcID)", placed))
            if not known
        ]
        raise CannotStart(
            f"{' and '.join(missing)} not set in provider.yaml, and the instance metadata service does not answer here"
        )
    region = aws.region or here.region
    if placed:
        return Location(region, aws.subnet_ids, aws.vpc_id)
    if region != here.region:
        raise CannotStart(
            f"cloud.aws.region is {region}, but Kip runs in {here.region}: set cloud.aws.subnetID or vpcID too"
        )
    return Location(region, (here.subnet_id,), here.vpc_id)
