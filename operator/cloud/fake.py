"""A cloud in memory that behaves: it keeps count of what was asked, runs out of capacity and fails on request.

It passes the same contract suite as `kip.cloud.ec2`; what it can do beyond is for tests that need it: `fail`,
`capacity`, `quota`, `boot_delay`, `unlisted`, `protected`, `calls`, `reset`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from ipaddress import IPv4Network

from kip.cloud import catalogue
from kip.cloud.base import (
    ALL_STATES,
    DEFAULT_VPC,
    Image,
    ImageSpec,
    Instance,
    InstanceState,
    LaunchRequest,
    SecurityGroup,
    Subnet,
)
from kip.cloud.errors import (
    CloudError,
    InsufficientCapacity,
    InvalidRequest,
    NotAuthorized,
    NotFound,
    QuotaExceeded,
    SubnetFull,
    TokenConflict,
)
from kip.cloud.fake_routes import FakeRouteTables
from kip.cloud.fake_site import AddressPool, eks_images, subnets_of
from kip.cloud.ratelimit import RUN_INSTANCES
from kip.cloud.routes import RouteTable
from kip.cloud.securitygroup import Rule, changes, security_group_name, wanted_rules
from kip.model.clock import Clock, SystemClock
from kip.model.instance_type import InstanceType
from kip.model.requirements import LaunchType

REGION = "us-east-1"
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


class FakeCloud:
    """`Compute`, `Images`, `Network`, `Routing` and `Offerings` in memory: one VPC with a subnet in each of two zones."""

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
        #: Seconds until a launch has its turn.
        self.launch_wait = 0.0
        #: Instances left of (type, zone, launch type); what is not named has no limit.
        self.capacity: dict[tuple[str, str, LaunchType], int] = {}
        #: Instances that may live in a zone; a launch of more is refused as a whole, as by an account's quota.
        self.quota: dict[str, int] = {}
        #: Instances that a listing leaves out, as if somebody had taken their tags away; asked for by ID they are there.
        self.unlisted: set[str] = set()
        #: Instances that TerminateInstances refuses to end.
        self.protected: set[str] = set()
        self.images = eks_images()
        #: Instance types that it describes; all are in all zones.
        self.catalogue = catalogue.load(REGION)
        #: (instance type, zone) → US dollars an hour on the spot market: half of the on-demand price.
        self.spot = {
            (kind.name, f"{REGION}{zone}"): kind.usd_per_hour / 2
            for kind in self.catalogue
            if kind.usd_per_hour and kind.spot
            for zone in "ab"
        }
        self._pools = subnets_of(self.vpc_id, self._vpc_cidr)
        self._instances: dict[str, Instance] = {}
        self._groups_of: dict[str, tuple[str, ...]] = {}
        # By token and zone: EC2 launches again when a token comes back for another zone.
        self._tokens: dict[tuple[str, str], tuple[LaunchRequest, tuple[str, ...]]] = {}
        self._groups: dict[tuple[str, str], str] = {}
        #: Ingress of each security group, with descriptions.
        self.ingress: dict[str, dict[Rule, str]] = {}
        self.routes = FakeRouteTables(self.vpc_id, str(self._vpc_cidr), self.all)
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
            instance = replace(
                instance, subnet_id=None, network_interface_id=None, private_ip=None, secondary_ips=()
            )
        self._instances[instance_id] = replace(instance, state=state, state_reason=reason or None)

    def all(self) -> list[Instance]:
        """Every instance there ever was, as it is now, in the order of their launch."""
        return [self._now(instance) for instance in self._instances.values()]

    # Offerings

    async def types(self) -> tuple[InstanceType, ...]:
        _raise(await self._enter("DescribeInstanceTypes", None))
        return tuple(replace(kind, usd_per_hour=None, zone_ids=None) for kind in self.catalogue)

    async def offered(self) -> dict[str, frozenset[str]]:
        _raise(await self._enter("DescribeInstanceTypeOfferings", None))
        names = frozenset(kind.name for kind in self.catalogue)
        return {pool.subnet.zone: names for pool in self._pools.values()}

    async def spot_prices(self) -> dict[tuple[str, str], float]:
        _raise(await self._enter("DescribeSpotPriceHistory", None))
        return dict(self.spot)

    # Compute

    async def launch(self, request: LaunchRequest) -> tuple[Instance, ...]:
        if problem := request.problem():
            raise InvalidRequest(problem)
        after = await self._enter("RunInstances", request)
        launched = self._repeated(request) or self._run(request)
        _raise(after)
        return tuple(self._now(self._instances[id_]) for id_ in launched)

    def launch_wait_s(self, ahead: int = 0) -> float:
        in_turn = (1 + ahead - RUN_INSTANCES.burst) / RUN_INSTANCES.per_second
        return max(self.launch_wait, in_turn, 0.0)

    async def describe(
        self, *, tags: Mapping[str, str], states: Collection[InstanceState] = ALL_STATES
    ) -> list[Instance]:
        _raise(await self._enter("DescribeInstances", dict(tags)))
        return [
            i
            for i in self.all()
            if i.state in states and tags.items() <= i.tags.items() and i.id not in self.unlisted
        ]

    async def describe_ids(self, ids: Collection[str]) -> list[Instance]:
        _raise(await self._enter("DescribeInstances", tuple(ids)))
        return [self._now(self._instances[id_]) for id_ in ids if id_ in self._instances]

    async def terminate(self, ids: Collection[str]) -> None:
        after = await self._enter("TerminateInstances", tuple(ids))
        for id_ in ids:
            if id_ in self._instances and not self._instances[id_].gone and id_ not in self.protected:
                self.set_state(id_, "terminated", USER_INITIATED)
        _raise(after)
        if refused := sorted(self.protected & set(ids)):
            raise CloudError(
                f"The instance '{refused[0]}' may not be terminated.",
                action="TerminateInstances",
                code="OperationNotPermitted",
            )

    async def tag(self, ids: Collection[str], tags: Mapping[str, str]) -> None:
        after = await self._enter("CreateTags", (tuple(ids), dict(tags)))
        if unknown := [id_ for id_ in ids if id_ not in self._instances]:
            raise NotFound(
                f"The ID '{unknown[0]}' does not exist",
                action="CreateTags",
                code="InvalidInstanceID.NotFound",
            )
        for id_ in ids:
            known = self._instances[id_]
            self._instances[id_] = replace(known, tags={**known.tags, **tags})
        _raise(after)

    # Images

    async def find(self, spec: ImageSpec) -> Image:
        _raise(await self._enter("DescribeImages", spec))
        found = [offered.image for offered in self.images if offered.matches(spec)]
        if not found:
            raise NotFound(f"no machine image matches: {spec}", action="DescribeImages")
        return max(found, key=lambda image: (image.creation, image.name, image.id))

    # Network

    async def subnet(self, subnet_id: str) -> Subnet:
        _raise(await self._enter("DescribeSubnets", subnet_id))
        return self._pool(subnet_id).subnet

    async def subnets(
        self, *, vpc_id: str | None = None, tags: Mapping[str, str] | None = None
    ) -> list[Subnet]:
        _raise(await self._enter("DescribeSubnets", vpc_id))
        if (
            vpc_id not in (None, DEFAULT_VPC, self.vpc_id)
            or not (tags or {}).items() <= self.subnet_tags.items()
        ):
            return []
        return [pool.subnet for _, pool in sorted(self._pools.items())]

    async def vpc_cidrs(self, vpc_id: str) -> tuple[str, ...]:
        _raise(await self._enter("DescribeVpcs", vpc_id))
        if vpc_id != self.vpc_id:
            raise NotFound(f"there is no VPC {vpc_id}", action="DescribeVpcs")
        return (str(self._vpc_cidr),)

    async def ensure_cell_security_group(
        self, *, cluster: str, vpc_id: str, extra_cidrs: Collection[str] = ()
    ) -> str:
        cidrs = (*await self.vpc_cidrs(vpc_id), *extra_cidrs)
        name = security_group_name(cluster)
        if (vpc_id, name) not in self._groups:
            after = await self._enter("CreateSecurityGroup", name)
            self._groups[vpc_id, name] = f"sg-{len(self.called('CreateSecurityGroup')):017x}"
            _raise(after)
        group_id = self._groups[vpc_id, name]
        rules = self.ingress.setdefault(group_id, {})
        todo = changes(rules, cidrs)
        if todo.missing:
            _raise(await self._enter("AuthorizeSecurityGroupIngress", todo.missing))
            rules |= {rule: wanted_rules(cidrs)[rule] for rule in todo.missing}
        if todo.surplus:
            with suppress(NotAuthorized):
                _raise(await self._enter("RevokeSecurityGroupIngress", todo.surplus))
                for rule in todo.surplus:
                    del rules[rule]
        return group_id

    async def cell_security_groups(self, cluster: str) -> list[SecurityGroup]:
        _raise(await self._enter("DescribeSecurityGroups", cluster))
        wanted = security_group_name(cluster)
        return [
            SecurityGroup(id=id_, name=name, vpc_id=vpc_id)
            for (vpc_id, name), id_ in self._groups.items()
            if name == wanted
        ]

    async def groups_naming(self, group_id: str) -> list[SecurityGroup]:
        _raise(await self._enter("DescribeSecurityGroups", group_id))
        return []  # rules of this cloud name ranges only; see kip.cloud.fake_efs

    async def delete_security_group(self, group_id: str) -> None:
        _raise(await self._enter("DeleteSecurityGroup", group_id))
        if any(group_id in self._groups_of.get(i.id, ()) for i in self.all() if i.state != "terminated"):
            raise CloudError(
                f"{group_id} has a dependent object", action="DeleteSecurityGroup", code="DependencyViolation"
            )
        self._groups = {key: id_ for key, id_ in self._groups.items() if id_ != group_id}
        self.ingress.pop(group_id, None)

    async def ping(self) -> None:
        _raise(await self._enter("DescribeAvailabilityZones", None))

    # Routing

    async def route_tables(self, vpc_ids: Collection[str] | None = None) -> list[RouteTable]:
        _raise(await self._enter("DescribeRouteTables", vpc_ids))
        return self.routes.look(vpc_ids)

    async def create_route(self, table_id: str, cidr: str, network_interface_id: str) -> None:
        after = await self._enter("CreateRoute", (table_id, cidr, network_interface_id))
        self.routes.create(table_id, cidr, network_interface_id)
        _raise(after)

    async def delete_route(self, table_id: str, cidr: str) -> None:
        after = await self._enter("DeleteRoute", (table_id, cidr))
        self.routes.delete(table_id, cidr)
        _raise(after)

    async def pass_foreign_traffic(self, instance_id: str) -> None:
        after = await self._enter("ModifyInstanceAttribute", instance_id)
        self.routes.stop_checking(instance_id)
        _raise(after)

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
        used = self._tokens.get((request.client_token, self._pool(request.subnet_id).subnet.zone))
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
        pool = self._pool(request.subnet_id)
        self._check_references(request)
        self._check_quota(request, pool.subnet.zone)
        wanted = min(request.count, self._room(request, pool))
        granted = self._take_capacity(request, pool.subnet.zone, wanted)
        ids = tuple(self._boot(request, pool, index) for index in range(granted))
        self._tokens[request.client_token, pool.subnet.zone] = (request, ids)
        return ids

    def _check_references(self, request: LaunchRequest) -> None:
        if request.instance_type not in {kind.name for kind in catalogue.load(REGION)}:
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

    def _check_quota(self, request: LaunchRequest, zone: str) -> None:
        living = sum(1 for instance in self.all() if instance.zone == zone and not instance.gone)
        if zone in self.quota and living + request.count > self.quota[zone]:
            raise QuotaExceeded(
                "You have requested more vCPU capacity than your current vCPU limit allows.",
                action="RunInstances",
                code="VcpuLimitExceeded",
            )

    def _take_capacity(self, request: LaunchRequest, zone: str, wanted: int) -> int:
        launch_type: LaunchType = "dedicated" if request.dedicated else request.market
        offering = (request.instance_type, zone, launch_type)
        if offering not in self.capacity:
            return wanted
        granted = min(wanted, self.capacity[offering])
        if not granted:
            raise InsufficientCapacity(
                f"no {launch_type} capacity for {request.instance_type} in {zone}",
                action="RunInstances",
                code="InsufficientInstanceCapacity",
            )
        self.capacity[offering] -= granted
        return granted

    def _room(self, request: LaunchRequest, pool: AddressPool) -> int:
        room = pool.subnet.free_addresses // (1 + request.secondary_private_ips)
        if not room:
            raise SubnetFull(
                f"no free addresses in {pool.subnet.id}",
                action="RunInstances",
                code="InsufficientFreeAddressesInSubnet",
            )
        return room

    def _boot(self, request: LaunchRequest, pool: AddressPool, index: int) -> str:
        id_ = f"i-{len(self._instances):017x}"
        addresses = pool.take(1 + request.secondary_private_ips)
        self._groups_of[id_] = request.security_group_ids
        self._instances[id_] = Instance(
            id=id_,
            state="pending",
            instance_type=request.instance_type,
            zone=pool.subnet.zone,
            subnet_id=pool.subnet.id,
            network_interface_id=f"eni-{id_.removeprefix('i-')}",
            private_ip=addresses[0],
            secondary_ips=tuple(addresses[1:]),
            launch_index=index,
            client_token=request.client_token,
            launch_time=self._clock.now(),
            tags=dict(request.tags),
            market=request.market,
            dedicated=request.dedicated,
        )
        return id_

    def _now(self, instance: Instance) -> Instance:
        """The instance as of this moment: running, if its boot delay is over."""
        booted = self._clock.now() >= instance.launch_time + timedelta(seconds=self.boot_delay)
        return replace(instance, state="running") if instance.state == "pending" and booted else instance

    def _release(self, instance: Instance) -> None:
        if instance.subnet_id and instance.private_ip:
            self._pools[instance.subnet_id].give_back((instance.private_ip, *instance.secondary_ips))

    def _pool(self, subnet_id: str) -> AddressPool:
        if subnet_id not in self._pools:
            raise NotFound(f"there is no subnet {subnet_id}", code="InvalidSubnetID.NotFound")
        return self._pools[subnet_id]


def _raise(error: CloudError | None) -> None:
    if error is not None:
        raise error
