"""What the operator asks of a cloud, in its own terms.

The protocols are implemented twice: by `kip.cloud.ec2` over AWS and by `kip.cloud.fake` in memory. One
contract suite (`tests/contract`) runs against both. Every method may raise the errors of `kip.cloud.errors`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from kip.model.instance_type import InstanceType
from kip.model.requirements import LaunchType

Market = Literal["on-demand", "spot"]
InstanceState = Literal["pending", "running", "shutting-down", "terminated", "stopping", "stopped"]

#: States in which an instance still has a machine, or may get one back.
LIVE_STATES: frozenset[InstanceState] = frozenset(("pending", "running", "stopping", "stopped"))
#: States from which an instance never returns.
GONE_STATES: frozenset[InstanceState] = frozenset(("shutting-down", "terminated"))
#: States in which an instance does nothing, though somebody may start it again.
STOPPED_STATES: frozenset[InstanceState] = frozenset(("stopping", "stopped"))
ALL_STATES: frozenset[InstanceState] = LIVE_STATES | GONE_STATES

#: In the place of a VPC's id: the account's default one.
DEFAULT_VPC = "default"
#: EC2 refuses longer client tokens (RunInstances, "ClientToken").
MAX_CLIENT_TOKEN = 64
#: EC2's limit for user data in bytes, before base64.
MAX_USER_DATA = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRequest:
    """One RunInstances call for up to `count` equal instances.

    A token stands for one request: repeat it only with every field equal. With other parameters EC2 refuses the
    token or answers with the old instances, and **in another zone it launches a second time**, because a call that
    names a subnet is idempotent per zone
    (https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html#run-instances-idempotency).
    Whoever changes the subnet takes a new token, after making sure that the old one launched nothing.
    """

    client_token: str
    count: int
    instance_type: str
    image_id: str
    subnet_id: str
    security_group_ids: tuple[str, ...]
    user_data: bytes
    market: Market = "on-demand"
    dedicated: bool = False
    """On hardware that runs no other account's instances: EC2's tenancy `dedicated`."""
    root_volume_gib: int | None = None
    """Size of the encrypted root volume; None leaves volume and encryption as the image says."""
    root_device_name: str = "/dev/xvda"
    """`Image.root_device_name`; used only together with `root_volume_gib`."""
    instance_profile: str | None = None
    """Name or ARN."""
    associate_public_ip: bool | None = None
    """None leaves it to the subnet's setting."""
    hop_limit: int = 1
    """IMDSv2 response hop limit: 2 lets a pod reach the metadata service, 1 does not."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Put on the instances, their volumes and network interfaces."""
    secondary_private_ips: int = 1

    def problem(self) -> str | None:
        """What is wrong with this request in any cloud, or None: found before anything is asked of AWS."""
        if self.count < 1:
            return f"count must be at least 1, not {self.count}"
        if not 0 < len(self.client_token) <= MAX_CLIENT_TOKEN or not self.client_token.isascii():
            return (
                f"the client token must have 1 to {MAX_CLIENT_TOKEN} ASCII characters: {self.client_token!r}"
            )
        if len(self.user_data) > MAX_USER_DATA:
            return f"user data has {len(self.user_data)} bytes, EC2 takes at most {MAX_USER_DATA}"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """An EC2 instance as DescribeInstances shows it."""

    id: str
    state: InstanceState
    instance_type: str
    zone: str
    subnet_id: str | None = None
    """None once AWS has forgotten the network of a terminated instance; so too the interface and the addresses."""
    network_interface_id: str | None = None
    """Of its first interface; a cell has no other."""
    private_ip: str | None = None
    secondary_ips: tuple[str, ...] = ()
    launch_index: int = 0
    """Position in its batch (`ami-launch-index`): tells which instance belongs to which cell."""
    client_token: str = ""
    launch_time: datetime
    tags: Mapping[str, str] = field(default_factory=dict)
    market: Market = "on-demand"
    dedicated: bool = False
    state_reason: str | None = None
    """AWS's words for the last change of state, `Code: message`, for example
    `Client.UserInitiatedShutdown: User initiated shutdown`."""

    @property
    def launch_type(self) -> LaunchType:
        """As the annotation `launch-type` has it."""
        return "dedicated" if self.dedicated else self.market

    @property
    def pod_ip(self) -> str | None:
        """The address given to the pod: the first secondary one of the first network interface."""
        return self.secondary_ips[0] if self.secondary_ips else None

    @property
    def gone(self) -> bool:
        """True when the instance will never run again."""
        return self.state in GONE_STATES

    @property
    def stopped(self) -> bool:
        """True when nothing runs on it now; it still exists, and its volume still costs money."""
        return self.state in STOPPED_STATES


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """Which machine image to look for (`bootImageSpec` of provider.yaml)."""

    ids: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    executable_users: tuple[str, ...] = ()
    """Accounts that may launch it: numbers, `self` or `all`."""
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """DescribeImages filters, name to values, like `{"name": ("amazon-eks-node-al2023-x86_64-*",)}`."""

    def __str__(self) -> str:
        parts = [f"id in {','.join(self.ids)}"] if self.ids else []
        parts += [f"owner in {','.join(self.owners)}"] if self.owners else []
        parts += [f"launchable by {','.join(self.executable_users)}"] if self.executable_users else []
        parts += [f"{name} in {','.join(values)}" for name, values in sorted(self.filters.items())]
        return "; ".join(parts) or "any image"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A machine image."""

    id: str
    name: str
    root_device_name: str
    architecture: str
    """As EC2 names it: `x86_64` or `arm64`."""
    creation: datetime
    root_volume_gib: int = 0
    """Size of the root volume's snapshot: a cell's volume cannot be smaller. 0 when AWS does not say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """A subnet that cells may be launched into."""

    id: str
    vpc_id: str
    cidr: str
    zone: str
    zone_id: str = ""
    """Which zone that really is (`use1-az4`): its name means another one in each account. Empty when not known."""
    free_addresses: int
    public: bool
    """True when instances get a public address there unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityGroup:
    """A security group."""

    id: str
    name: str
    vpc_id: str


class Marketplace(Protocol):
    """What a product sold on AWS Marketplace owes it."""

    async def register(self, product_code: str, public_key_version: int) -> None:
        """This pod runs the product (RegisterUsage); asked again by the same pod it changes nothing.

        Raises:
            NotAuthorized: the customer has not subscribed, or the permission is missing.
        """
        ...

    async def meter(
        self, product_code: str, dimension: str, timestamp: datetime, quantity: int, client_token: str
    ) -> None:
        """The use of one hour (MeterUsage). Repeated with the same token and values it counts once.

        Raises:
            TokenConflict: there is a record for that hour and dimension, or of that token, with other values.
            InvalidRequest: with code TIMESTAMP_OUT_OF_BOUNDS if the hour is too long ago.
        """
        ...


#: AWS's error code for a record that it no longer takes: more than six hours after its hour.
TIMESTAMP_OUT_OF_BOUNDS = "TimestampOutOfBoundsException"


class Compute(Protocol):
    """Machines."""

    async def launch(self, request: LaunchRequest) -> tuple[Instance, ...]:
        """Start 1 to `request.count` instances, sorted by launch index; fewer than asked for is no error.

        Asked again with the same token, the same instances are returned in their present state and nothing is
        started, so a call whose answer was lost (`Unreachable`) is repeated with the same request.

        Raises:
            InsufficientCapacity: AWS has not one such machine now.
            QuotaExceeded: a limit of the account does not admit `count` more.
            SubnetFull: the subnet has no address left.
            TokenConflict: the token was used with other parameters, or its instances are terminated.
            InvalidRequest: AWS refuses a parameter; repeating it changes nothing.
            NotAuthorized, Throttled, Unreachable, CloudError.
        """
        ...

    def launch_wait_s(self, ahead: int = 0) -> float:
        """Seconds that a launch would wait for its turn if it were asked for now, after as many others as are `ahead`."""
        ...

    async def describe(
        self, *, tags: Mapping[str, str], states: Collection[InstanceState] = ALL_STATES
    ) -> list[Instance]:
        """Every instance that carries all of `tags` and is in one of `states`: one filtered, paged sweep.

        EC2 is eventually consistent: an instance that `launch` has just returned may be missing for
        some seconds.
        """
        ...

    async def describe_ids(self, ids: Collection[str]) -> list[Instance]:
        """Those of `ids` that exist; others are left out. Terminated ones are known for an hour or so."""
        ...

    async def terminate(self, ids: Collection[str]) -> None:
        """End instances. Unknown and already terminated ids are fine; one that AWS refuses to end keeps back no other."""
        ...

    async def tag(self, ids: Collection[str], tags: Mapping[str, str]) -> None:
        """Put these tags on instances, over those of the same key; at most 1000 at once.

        Raises:
            CloudError: also when EC2 does not know one of them, or not yet; then none is tagged.
            NotAuthorized: the permission may well be missing, nothing depends on it.
        """
        ...


class Images(Protocol):
    """Machine images."""

    async def find(self, spec: ImageSpec) -> Image:
        """The newest available image that matches.

        Raises:
            NotFound: none does.
        """
        ...


class Network(Protocol):
    """Where cells are put."""

    async def subnet(self, subnet_id: str) -> Subnet:
        """One subnet.

        Raises:
            NotFound: there is no such subnet.
        """
        ...

    async def subnets(
        self, *, vpc_id: str | None = None, tags: Mapping[str, str] | None = None
    ) -> list[Subnet]:
        """The subnets of a VPC (`DEFAULT_VPC`: the account's) that carry all of `tags`, by id.

        Without a VPC those of any that carry the tags; without both, those of the default VPC.
        """
        ...

    async def vpc_cidrs(self, vpc_id: str) -> tuple[str, ...]:
        """Every IPv4 range of the VPC, the primary one first."""
        ...

    async def ensure_cell_security_group(
        self, *, cluster: str, vpc_id: str, extra_cidrs: Collection[str] = ()
    ) -> str:
        """Id of the group `kip-<cluster>-cells`, created when missing and brought to the wanted rules.

        Ingress: SSH (22) and all other traffic from the VPC's ranges and `extra_cidrs` (other pod networks);
        egress as EC2 makes it, to everywhere. Rules that Kip made for ranges of before are revoked, where that is
        allowed; rules that somebody added are left alone.

        Raises:
            NotAuthorized: names the permission that is missing.
        """
        ...

    async def cell_security_groups(self, cluster: str) -> list[SecurityGroup]:
        """The groups that `ensure_cell_security_group` made for this cluster, in all VPCs of the region."""
        ...

    async def groups_naming(self, group_id: str) -> list[SecurityGroup]:
        """The other groups whose ingress names this one: while there are any, it cannot be deleted."""
        ...

    async def delete_security_group(self, group_id: str) -> None:
        """Delete a group; one that is gone already is fine.

        Raises:
            CloudError: with the code `DependencyViolation` while an interface or another group's rule uses it.
        """
        ...

    async def ping(self) -> None:
        """Return if AWS answers and accepts our credentials: one cheap call for the node's conditions."""
        ...


class Offerings(Protocol):
    """What the cloud rents out in its region now: each answer is whole, and for seldom use."""

    async def types(self) -> tuple[InstanceType, ...]:
        """Every instance type, by name, without prices and zones.

        Raises:
            NotAuthorized: the role lacks this permission; no other method needs it.
        """
        ...

    async def offered(self) -> Mapping[str, frozenset[str]]:
        """Zone → every instance type that it has. Raises as `types`."""
        ...

    async def spot_prices(self) -> Mapping[tuple[str, str], float]:
        """(instance type, zone) → US dollars an hour for Linux on the spot market. Raises as `types`."""
        ...


class PriceList(Protocol):
    """What the cloud's operator asks for its machines."""

    async def on_demand(self) -> Mapping[str, float]:
        """Instance type → US dollars an hour for Linux on shared hardware, in the region. Raises as `Offerings.types`."""
        ...
