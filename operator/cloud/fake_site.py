"""What the fake cloud has on offer before anybody launches: images, and subnets with their addresses."""

from __future__ import annotations

import fnmatch
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import IPv4Network

from kip.cloud.base import Image, ImageSpec, Subnet

_VARIANTS = (("x86_64", "standard"), ("arm64", "standard"), ("x86_64", "nvidia"), ("arm64", "nvidia"))
_RELEASES = ("20261020", "20261105")


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeImage:
    """An image, and who publishes it."""

    image: Image
    owner: str = "602401143452"

    def matches(self, spec: ImageSpec) -> bool:
        """True if DescribeImages would show it for that question."""
        values = {"name": self.image.name, "architecture": self.image.architecture, "image-id": self.image.id}
        return (
            (not spec.ids or self.image.id in spec.ids)
            and (not spec.owners or self.owner in spec.owners or "amazon" in spec.owners)
            and all(
                any(fnmatch.fnmatchcase(values.get(name, ""), pattern) for pattern in patterns)
                for name, patterns in spec.filters.items()
            )
        )


def eks_images() -> list[FakeImage]:
    """Two releases of each variant of the EKS AL2023 image."""
    return [
        FakeImage(
            image=Image(
                id=f"ami-{architecture}-{variant}-{release}",
                name=f"amazon-eks-node-al2023-{architecture}-{variant}-1.36-v{release}",
                root_device_name="/dev/xvda",
                architecture=architecture,
                creation=datetime.strptime(release, "%Y%m%d").replace(tzinfo=UTC),
            )
        )
        for architecture, variant in _VARIANTS
        for release in _RELEASES
    ]


class AddressPool:
    """A subnet and its free addresses; freed ones are given again last."""

    def __init__(self, subnet: Subnet) -> None:
        self._subnet = subnet
        # As in a real subnet, the first four addresses and the last one belong to the VPC itself.
        self._free = deque(str(address) for address in list(IPv4Network(subnet.cidr))[4:-1])

    @property
    def subnet(self) -> Subnet:
        """The subnet as it is now."""
        return replace(self._subnet, free_addresses=len(self._free))

    def take(self, count: int) -> list[str]:
        """So many addresses; the caller has looked whether there are."""
        return [self._free.popleft() for _ in range(count)]

    def give_back(self, addresses: Iterable[str]) -> None:
        self._free += addresses


def subnets_of(vpc_id: str, cidr: IPv4Network) -> dict[str, AddressPool]:
    """A subnet in each of two zones, by id; each has half of the VPC."""
    pools = [
        AddressPool(
            Subnet(
                id=f"subnet-fake-{zone}",
                vpc_id=vpc_id,
                cidr=str(half),
                zone=f"us-east-1{zone}",
                free_addresses=0,
                public=False,
            )
        )
        for zone, half in zip("ab", cidr.subnets(prefixlen_diff=1), strict=True)
    ]
    return {pool.subnet.id: pool for pool in pools}
