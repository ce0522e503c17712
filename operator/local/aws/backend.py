"""The local account's EC2: one VPC that is the machine room's network, and the images the room can boot."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Network
from types import ModuleType

from moto.ec2 import urls, utils
from moto.ec2.models import EC2Backend
from moto.ec2.models.amis import Ami
from moto.ec2.models.availability_zones_and_regions import RegionsAndZonesBackend
from moto.ec2.models.vpcs import VPC

from kip.local.aws.instance import LocalInstance
from kip.local.aws.network import LocalSubnet

#: Fixed, so that configuration files can name them.
VPC_ID = "vpc-0c1b0000000000001"
#: The first zone's.
SUBNET_ID = "subnet-0c1b0000000000001"
LOCAL_TAG = {"kip-local": "true"}

#: AWS's own account that publishes the EKS images.
EKS_IMAGE_OWNER = "602401143452"
ROOT_DEVICE = "/dev/xvda"
_RELEASES = ("20261020", "20261105")
_WILDCARD = {*"*?\\"}  # in the values of EC2's filters
_VARIANTS = (("x86_64", "standard"), ("arm64", "standard"), ("x86_64", "nvidia"), ("arm64", "nvidia"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where the account's VPC is."""

    cidr: IPv4Network
    withheld: tuple[IPv4Network, ...] = ()
    """Ranges inside `cidr` that instances never get."""
    region: str = "us-east-1"
    kubernetes: str = "1.36"
    """Minor version in the names of the EKS images."""
    zones: int = 1
    """How many zones have a subnet, of equal shares of `cidr`: a power of two, at most 4."""

    @property
    def zone(self) -> str:
        """The first one."""
        return f"{self.region}a"

    def subnets(self) -> list[tuple[str, str, IPv4Network]]:
        """Id, zone and range of each."""
        shares = self.cidr.subnets(prefixlen_diff=self.zones.bit_length() - 1)
        return [
            (f"{SUBNET_ID[:-1]}{number + 1}", f"{self.region}{'abcd'[number]}", share)
            for number, share in enumerate(shares)
        ]


class LocalBackend(EC2Backend):
    """moto's EC2 with our VPC as the default one instead of 172.31.0.0/16, and our images instead of its own."""

    def __init__(self, account_id: str, site: Site) -> None:
        # Read by the two methods below, which the base class calls from its constructor.
        self.site = site
        super().__init__(site.region, account_id)

    @property
    def _url_module(self) -> ModuleType:
        """moto looks for it beside the class's module."""
        return urls

    def create_default_vpc(self) -> VPC:
        vpc = VPC(  # type: ignore[abstract] # moto's own mixin is never completed
            self, VPC_ID, str(self.site.cidr), is_default=True
        )
        vpc.add_tags(LOCAL_TAG)
        self.vpcs[VPC_ID] = vpc
        self.create_route_table(VPC_ID, main=True)
        self.create_network_acl(VPC_ID, default=True)
        self.create_security_group("default", "default VPC security group", vpc_id=VPC_ID, is_default=True)
        for subnet in self.site.subnets():
            self._create_subnet(*subnet)
        return vpc

    def _create_subnet(self, subnet_id: str, zone_name: str, cidr: IPv4Network) -> None:
        zones = RegionsAndZonesBackend.zones[self.site.region]
        subnet = LocalSubnet(  # type: ignore[abstract] # as above
            self,
            subnet_id,
            VPC_ID,
            str(cidr),
            None,
            next(zone for zone in zones if zone.name == zone_name),
            default_for_az=True,
            map_public_ip_on_launch=False,
            withheld=self.site.withheld,
        )
        subnet.add_tags(LOCAL_TAG)
        self.associate_default_network_acl_with_subnet(subnet_id, VPC_ID)
        self.subnets[zone_name][subnet_id] = subnet

    def _load_amis(self) -> None:
        for number, (architecture, variant) in enumerate(_VARIANTS):
            for release in _RELEASES:
                ami_id = f"ami-0c1b{number:05}{release}"
                self.amis[ami_id] = Ami(
                    self,
                    ami_id,
                    name=f"amazon-eks-node-al2023-{architecture}-{variant}-{self.site.kubernetes}-v{release}",
                    description="Boots in the machine room of a local Kip world",
                    owner_id=EKS_IMAGE_OWNER,
                    owner_alias="amazon",
                    public=True,
                    virtualization_type="hvm",
                    architecture=architecture,
                    root_device_type="ebs",
                    root_device_name=ROOT_DEVICE,
                    creation_date=datetime.strptime(release, "%Y%m%d").replace(tzinfo=UTC),
                    region_name=self.site.zone,
                )

    def describe_tags(self, filters: dict[str, list[str]] | None = None) -> list[dict[str, str]]:
        """moto looks through the tags of everything there is, three times for each instance in an answer: with a
        thousand instances that takes seconds."""
        ids = (filters or {}).get("resource-id", [])
        if filters is None or len(filters) > 1 or len(ids) != 1 or _WILDCARD & {*ids[0]}:
            found: list[dict[str, str]] = super().describe_tags(filters)
            return found
        kind = utils.EC2_PREFIX_TO_RESOURCE.get(utils.get_prefix(ids[0]), "")
        return [
            {"resource_id": ids[0], "key": key, "value": value, "resource_type": kind}
            for key, value in self.tags.get(ids[0], {}).items()
        ]

    def instances(self) -> list[LocalInstance]:
        """Every instance that EC2 still knows, in the order of their launch."""
        return [
            instance
            for reservation in self.reservations.values()
            for instance in reservation.instances
            if isinstance(instance, LocalInstance)
        ]

    def forget_terminated(self, before: float) -> int:
        """Drop what was terminated before that moment (epoch seconds); returns how many instances."""
        dropped = 0
        for reservation_id, reservation in list(self.reservations.items()):
            kept = [i for i in reservation.instances if not _terminated_before(i, before)]
            dropped += len(reservation.instances) - len(kept)
            reservation.instances = kept
            if not kept:
                del self.reservations[reservation_id]
        return dropped


def _terminated_before(instance: object, moment: float) -> bool:
    return (
        isinstance(instance, LocalInstance)
        and instance.terminated_at is not None
        and instance.terminated_at < moment
    )
