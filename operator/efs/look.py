"""Finding what there is of one cluster's volume, and where its mount targets can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kip.cloud.base import DEFAULT_VPC, LIVE_STATES, Compute, Network, Subnet
from kip.cloud.efs import LIVE, FileSystems
from kip.cloud.nfsgroup import NfsGroups, is_image_cache, nfs_group_name
from kip.efs.plan import BY_HAND_GROUPS, Found
from kip.model import names
from kip.model.clock import Clock


@dataclass(frozen=True, slots=True)
class Places:
    """Where to look."""

    compute: Compute
    network: Network
    groups: NfsGroups
    efs: FileSystems
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """What is said about the network: by options, else by provider.yaml."""

    vpc_id: str | None = None
    named_subnets: tuple[str, ...] = ()
    """Mount targets shall be in these and in no others."""
    cells_subnets: tuple[str, ...] = ()
    """Of provider.yaml: preferred, where their zone has several."""
    cells_tags: Mapping[str, str] = field(default_factory=dict)
    """Of provider.yaml, instead of ids."""


class PlaceUnknown(Exception):
    """Nothing says which VPC; the text says what would."""


async def subnets(network: Network, where: Where) -> tuple[Subnet, ...]:
    """Where mount targets may be, the preferred ones first; all of the VPC unless they were named.

    A mount target in every zone costs nothing, and only there does the volume's name lead to it: the image cache
    controller may run on any node of the VPC.

    Raises:
        PlaceUnknown: neither a VPC nor a subnet is said anywhere.
        CloudError: also for a subnet that there is not.
    """
    if where.named_subnets:
        return tuple([await network.subnet(id_) for id_ in dict.fromkeys(where.named_subnets)])
    cells = [await network.subnet(id_) for id_ in where.cells_subnets]
    if where.cells_tags:
        cells = await network.subnets(vpc_id=where.vpc_id, tags=where.cells_tags)
    vpc_id = where.vpc_id or (cells[0].vpc_id if cells else None)
    if vpc_id is None:
        raise PlaceUnknown(
            "which VPC is not known: give --vpc or --subnet, or a provider.yaml with cloud.aws.vpcID or subnetID"
        )
    everywhere = await network.subnets(vpc_id=vpc_id)
    preferred = {subnet.id for subnet in cells}
    return tuple(sorted(everywhere, key=lambda one: (one.id not in preferred, -one.free_addresses, one.id)))


def vpc_of(found: Sequence[Subnet], where: Where) -> str:
    """The VPC that is meant."""
    if where.vpc_id and where.vpc_id != DEFAULT_VPC:
        return where.vpc_id
    return found[0].vpc_id if found else where.vpc_id or ""


async def look(places: Places, cluster: str) -> Found:
    """What is there; raises CloudError."""
    systems = await places.efs.file_systems()
    ours = [one for one in systems if is_image_cache(one.tags, cluster)]
    targets = [target for one in ours for target in await places.efs.mount_targets(one.id)]
    living = [one.id for one in ours if one.state in LIVE]
    return Found(
        cells_groups=tuple(await places.network.cell_security_groups(cluster)),
        mount_groups=tuple(await places.groups.tagged_groups(cluster)),
        named_groups=tuple(await places.groups.named_groups(nfs_group_name(cluster), *BY_HAND_GROUPS)),
        file_systems=tuple(systems),
        mount_targets=tuple(targets),
        lifecycle_days=await places.efs.lifecycle_days(living[0]) if living else None,
        instances=tuple(await places.compute.describe(tags={names.TAG_CLUSTER: cluster}, states=LIVE_STATES)),
    )
