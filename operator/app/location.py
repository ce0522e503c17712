"""Where cells go when provider.yaml does not say it: where Kip itself runs, and never somewhere by chance."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from kip.app.cluster import CannotStart
from kip.cloud.metadata import Whereabouts
from kip.config import Aws


@dataclass(frozen=True)
class Location:
    """A region, and in it subnets, or a VPC (None: the account's default one), or tags of subnets (in that VPC or any)."""

    region: str
    subnet_ids: tuple[str, ...]
    vpc_id: str | None
    subnet_tags: Mapping[str, str] = field(default_factory=dict)


async def locate(aws: Aws, whereabouts: Callable[[], Awaitable[Whereabouts | None]]) -> Location:
    """What is configured, completed by where this process runs; raises CannotStart naming what has to be set."""
    placed = bool(aws.subnet_ids or aws.vpc_id or aws.subnet_tags)
    if aws.region and placed:
        return Location(aws.region, aws.subnet_ids, aws.vpc_id, aws.subnet_tags)
    here = await whereabouts()
    if here is None:
        raise CannotStart(_unknown(region=not aws.region, place=not placed))
    region = aws.region or here.region
    if placed:
        return Location(region, aws.subnet_ids, aws.vpc_id, aws.subnet_tags)
    if region != here.region:
        raise CannotStart(
            f"cloud.aws.region is {region}, but Kip runs in {here.region}: set cloud.aws.subnetID or vpcID too"
        )
    return Location(region, (here.subnet_id,), here.vpc_id)


def _unknown(*, region: bool, place: bool) -> str:
    """What is missing, and where it is set: most people see this in the log of a pod that deploy.sh or Helm made."""
    missing = [
        setting
        for setting, lacks in (
            ("cloud.aws.region (deploy.sh: USE_REGION, Helm: region)", region),
            (
                "cloud.aws.subnetID or cloud.aws.vpcID (deploy.sh: SUBNET_IDS or VPC_ID, Helm: subnetIDs or vpcID)",
                place,
            ),
        )
        if lacks
    ]
    return (
        f"where to launch cells is not known; set {' and '.join(missing)}. It is not in provider.yaml, and where Kip "
        "itself runs cannot be found out: the instance metadata service does not answer, and the environment variable "
        "NODE_NAME names no node that is an EC2 instance which Kip may look up"
    )
