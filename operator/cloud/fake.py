"""A cloud in memory that behaves: it keeps count of what was asked, runs out of capacity and fails on request.

It passes the same contract suite as `kip.cloud.ec2`; what it can do beyond is for tests that need it: `fail`,
`capacity`, `boot_delay`, `calls`, `reset`.
"""

from __future__ import annotations

import asyncio
import fnmatch
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network

from kip.cloud import catalogue
from kip.cloud.base import (
    ALL_STATES,
    Image,
    ImageSpec,
    Instance,
    InstanceState,
    LaunchRequest,
    Market,
    Subnet,
)
from kip.cloud.errors import (
    CloudError,
    InsufficientCapacity,
    InvalidRequest,
    NotFound,
    QuotaExceeded,
    TokenConflict,
)
from kip.cloud.network import security_group_name
from kip.model.clock import Clock, SystemClock

USER_INITIATED = "Client.UserInitiatedShutdown: User initiated shutdown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of the API, whether it succeeded or not."""

    action: str
    """As AWS names it: `RunInstances`."""
    subject: object
    """The LaunchRequest, the ids, the tags: what the call was about."""


@dataclass(slots=True)
class _Fault:
    error: CloudError
    times: int
    after: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeImage:
    """An image the fake cloud offers, with what `Images.find` compares."""

    image: Image
    owner: str = "602401143452"


@dataclass(slots=True)
class _Network:
    subnet: Subnet
    free: deque[str] = field(default_factory=deque)


class FakeCloud:
    """`Compute`, `Images` and `Network` in memory: one VPC with a subnet in each of two zones."""

    def __init__(self, *, clock: Clock | None = None, vpc_cidr: str = "10.0.0.0/18") -> None:
        self._clock = clock or SystemClock()
        self._vpc_cidr = IPv4Network(vpc_cidr)
        self.reset()

    def reset(self) -> None:
        """Forget everything: instances, tokens, calls, faults, security groups."""
        self.vpc_id = "vpc-fake"
        self.calls: list[Call] = []
        self.subnet_tags = {"kip-local": "true"}
        #: Seconds that an instance stays pending.
        self.boot_delay = 0.0
        #: Instances left of (type, zone, market); what is not named has no limit.
        self.capacity: dict[tuple[str, str, Market], int] = {}
        self.images = [
            FakeImage(image=_image(architecture, variant, release))
            for architecture, variant in (("x86_64", "standard"), ("arm64", "standard"), ("x86_64", "nvidia"))
            for release in ("20261020", "20261105")
        ]
        self._networks = {network.subnet.id: network for network in self._two_subnets()}
        self._instances: dict[str, Instance] = {}
        # By token and zone: EC2 launches again when a token comes back for another zone.
        self._tokens: dict[tuple[str, str], tuple[LaunchRequest, tuple[str, ...]]] = {}
        self._groups: dict[tuple[str, str], str] = {}
        self._faults: dict[str, deque[_Fault]] = {}

    # What tests do with it.

    def fail(self, action: str, error: CloudError, *, times: int = 1, after: bool = False) -> None:
        """Let the next calls of that AWS action (`RunInstances`) raise; `after` they took effect."""
        self._faults.setdefault(action, deque()).append(_Fault(error, times, after))

    def called(self, action: str) -> list[Call]:
        """The calls of one action, oldest first."""
        return [call for call in self.calls if call.action == action]

    def set_state(self, instance_id: str, state: InstanceState, reason: str = "") -> None:
        """Let something happen to an instance: a spot interruption, a power-off, a boot that fails."""
        instance = self._instances[instance_id]
        if state == "terminated":
            self._release(instance)
            instance = replace(instance, subnet_id=None, private_ip=None, secondary_ips=())
        self._instances[instance_id] = replace(instance, state=state, state_reason=reason or None)

    def all(self) -> list[Instance]:
        """Every instance there ever was, as it is now, in the order of their launch."""
        return [self._now(instance) for instance in self._instances.values()]

    # Compute

    async def launch(self, request: LaunchRequest) -> tuple[Instance, ...]:
        if problem := request.problem():
            raise InvalidRequest(problem)
        after = await self._enter("RunInstances", request)
        launched = self._repeated(request) or self._run(request)
        _raise(after)
        return tuple(self._now(self._instances[id_]) for id_ in launched)

    async def describe(
        self, *, tags: Mapping[str, str], states: Collection[InstanceState] = ALL_STATES
    ) -> list[Instance]:
        _raise(await self._enter("DescribeInstances", dict(tags)))
        return [i for i in self.all() if i.state in states and tags.items() <= i.tags.items()]

    async def describe_ids(self, ids: Collection[str]) -> list[Instance]:
        _raise(await self._enter("DescribeInstances", tuple(ids)))
        return [self._now(self._instances[id_]) for id_ in ids if id_ in self._instances]

    async def terminate(self, ids: Collection[str]) -> None:
        after = await self._enter("TerminateInstances", tuple(ids))
        for id_ in ids:
            if id_ in self._instances and not self._instances[id_].gone:
                self.set_state(id_, "terminated", USER_INITIATED)
        _raise(after)

    # Images

    async def find(self, spec: ImageSpec) -> Image:
        _raise(await self._enter("DescribeImages", spec))
        found = [offered.image for offered in self.images if _matches(offered, spec)]
        if not found:
            raise NotFound(f"no machine image matches: {spec}", action="DescribeImages")
        return max(found, key=lambda image: (image.creation, image.name, image.id))

    # Network

    async def subnet(self, subnet_id: str) -> Subnet:
        _raise(await self._enter("DescribeSubnets", subnet_id))
        return self._shown(self._network(subnet_id))

    async def subnets(
        self, *, vpc_id: str | None = None, tags: Mapping[str, str] | None = None
    ) -> list[Subnet]:
        _raise(await self._enter("DescribeSubnets", vpc_id))
        if vpc_id not in (None, self.vpc_id) or not (tags or {}).items() <= self.subnet_tags.items():
            return []
        return [self._shown(network) for _, network in sorted(self._networks.items())]

    async def vpc_cidrs(self, vpc_id: str) -> tuple[str, ...]:
        _raise(await self._enter("DescribeVpcs", vpc_id))
        if vpc_id != self.vpc_id:
            raise NotFound(f"there is no VPC {vpc_id}", action="DescribeVpcs")
        return (str(self._vpc_cidr),)

    async def ensure_cell_security_group(
        self, *, cluster: str, vpc_id: str, extra_cidrs: Collection[str] = ()
    ) -> str:
        await self.vpc_cidrs(vpc_id)
        name = security_group_name(cluster)
        if (vpc_id, name) not in self._groups:
            after = await self._enter("CreateSecurityGroup", name)
            self._groups[vpc_id, name] = f"sg-{len(self._groups):017x}"
            _raise(after)
        return self._groups[vpc_id, name]

    async def ping(self) -> None:
        _raise(await self._enter("DescribeAvailabilityZones", None))

    async def _enter(self, action: str, subject: object) -> CloudError | None:
        """Record the call; raise the fault it meets, or return the one to raise after it took effect."""
        self.calls.append(Call(action=action, subject=subject))
        # A call over a network always gives others a turn: code that is right only without one shall not pass.
        await asyncio.sleep(0)
        faults = self._faults.get(action)
        if not faults:
            return None
        fault = faults[0]
        fault.times -= 1
        if not fault.times:
            faults.popleft()
        if not fault.after:
            raise fault.error
        return fault.error

    def _repeated(self, request: LaunchRequest) -> tuple[str, ...] | None:
        """Ids of what the request's token launched before."""
        used = self._tokens.get((request.client_token, self._network(request.subnet_id).subnet.zone))
        if used is None:
            return None
        before, ids = used
        if before != request:
            raise TokenConflict(
                "the token was used with other parameters",
                action="RunInstances",
                code="IdempotentParameterMismatch",
            )
        if all(self._instances[id_].gone for id_ in ids):
            raise TokenConflict(
                "the token's instances are terminated",
                action="RunInstances",
                code="IdempotentInstanceTerminated",
            )
        return ids

    def _run(self, request: LaunchRequest) -> tuple[str, ...]:
        network = self._network(request.subnet_id)
        self._check_references(request)
        granted = min(self._take_capacity(request, network.subnet.zone), self._room(request, network))
        ids = tuple(self._boot(request, network, index) for index in range(granted))
        self._tokens[request.client_token, network.subnet.zone] = (request, ids)
        return ids

    def _check_references(self, request: LaunchRequest) -> None:
        if request.instance_type not in {kind.name for kind in catalogue.load("us-east-1")}:
            raise InvalidRequest(
                f"Invalid value '{request.instance_type}' for InstanceType.",
                action="RunInstances",
                code="InvalidParameterValue",
            )
        if request.image_id not in {offered.image.id for offered in self.images}:
            raise NotFound(
                f"no image {request.image_id}", action="RunInstances", code="InvalidAMIID.NotFound"
            )
        for group in request.security_group_ids:
            if group not in self._groups.values():
                raise NotFound(
                    f"no security group {group}", action="RunInstances", code="InvalidGroup.NotFound"
                )

    def _take_capacity(self, request: LaunchRequest, zone: str) -> int:
        pool = (request.instance_type, zone, request.market)
        if pool not in self.capacity:
            return request.count
        granted = min(request.count, self.capacity[pool])
        if not granted:
            raise InsufficientCapacity(
                f"no {request.market} capacity for {request.instance_type} in {zone}",
                action="RunInstances",
                code="InsufficientInstanceCapacity",
            )
        self.capacity[pool] -= granted
        return granted

    def _room(self, request: LaunchRequest, network: _Network) -> int:
        room = len(network.free) // (1 + request.secondary_private_ips)
        if not room:
            raise QuotaExceeded(
                f"no free addresses in {network.subnet.id}",
                action="RunInstances",
                code="InsufficientFreeAddressesInSubnet",
            )
        return room

    def _boot(self, request: LaunchRequest, network: _Network, index: int) -> str:
        id_ = f"i-{len(self._instances):017x}"
        addresses = [network.free.popleft() for _ in range(1 + request.secondary_private_ips)]
        self._instances[id_] = Instance(
            id=id_,
            state="pending",
            instance_type=request.instance_type,
            zone=network.subnet.zone,
            subnet_id=network.subnet.id,
            private_ip=addresses[0],
            secondary_ips=tuple(addresses[1:]),
            launch_index=index,
            client_token=request.client_token,
            launch_time=self._clock.now(),
            tags=dict(request.tags),
            market=request.market,
        )
        return id_

    def _now(self, instance: Instance) -> Instance:
        """The instance as of this moment: running, if its boot delay is over."""
        booted = self._clock.now() >= instance.launch_time + timedelta(seconds=self.boot_delay)
        return replace(instance, state="running") if instance.state == "pending" and booted else instance

    def _release(self, instance: Instance) -> None:
        if instance.subnet_id and instance.private_ip:
            self._networks[instance.subnet_id].free += (instance.private_ip, *instance.secondary_ips)

    def _network(self, subnet_id: str) -> _Network:
        if subnet_id not in self._networks:
            raise NotFound(f"there is no subnet {subnet_id}", code="InvalidSubnetID.NotFound")
        return self._networks[subnet_id]

    def _shown(self, network: _Network) -> Subnet:
        return replace(network.subnet, free_addresses=len(network.free))

    def _two_subnets(self) -> list[_Network]:
        halves = self._vpc_cidr.subnets(prefixlen_diff=1)
        return [self._one_subnet(zone, cidr) for zone, cidr in zip("ab", halves, strict=True)]

    def _one_subnet(self, zone: str, cidr: IPv4Network) -> _Network:
        # As in a real subnet, the first four addresses and the last one belong to the VPC itself.
        free = deque(str(address) for address in list(cidr)[4:-1])
        subnet = Subnet(
            id=f"subnet-fake-{zone}",
            vpc_id=self.vpc_id,
            cidr=str(cidr),
            zone=f"us-east-1{zone}",
            free_addresses=len(free),
            public=False,
        )
        return _Network(subnet, free)


def _image(architecture: str, variant: str, release: str) -> Image:
    return Image(
        id=f"ami-{architecture}-{variant}-{release}",
        name=f"amazon-eks-node-al2023-{architecture}-{variant}-1.36-v{release}",
        root_device_name="/dev/xvda",
        architecture=architecture,
        creation=datetime.strptime(release, "%Y%m%d").replace(tzinfo=UTC),
    )


def _matches(offered: FakeImage, spec: ImageSpec) -> bool:
    image = offered.image
    values = {"name": image.name, "architecture": image.architecture, "image-id": image.id}
    return (
        (not spec.ids or image.id in spec.ids)
        and (not spec.owners or offered.owner in spec.owners or "amazon" in spec.owners)
        and all(
            any(fnmatch.fnmatchcase(values.get(name, ""), pattern) for pattern in patterns)
            for name, patterns in spec.filters.items()
        )
    )


def _raise(error: CloudError | None) -> None:
    if error is not None:
        raise error
