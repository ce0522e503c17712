"""Machines on EC2."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from kip.cloud.base import ALL_STATES, Instance, InstanceState, LaunchRequest
from kip.cloud.batching import Batcher, Windows
from kip.cloud.errors import CloudError, InvalidRequest, NotFound, Throttled, TokenConflict, Unreachable
from kip.cloud.ratelimit import CREATE_TAGS, RUN_INSTANCES, Rate, RateLimiter
from kip.cloud.sdk import Answer, Ec2Sdk, filters

#: TerminateInstances takes up to 1000 ids, but AWS asks for fewer to avoid time-outs; Karpenter uses 500.
TERMINATE_AT_ONCE = 500
#: EC2's limit for the values of one request's filters ("FilterLimitExceeded" above it).
FILTER_VALUES = 200

# One refused instance among 500 is found by nine; each costs two calls. Where all are refused, as without the permission,
# the rest of EC2's 100 calls at once (and 5 more a second) belongs to others.
_MOST_SPLITS = 20

#: Calls for single instances that come within these windows (seconds) go to AWS as one.
TERMINATE_WINDOWS = Windows(idle=0.05, longest=0.5, most_items=TERMINATE_AT_ONCE)
DESCRIBE_WINDOWS = Windows(idle=0.02, longest=0.2, most_items=FILTER_VALUES)


class Ec2Compute:
    """`kip.cloud.base.Compute` over EC2."""

    def __init__(
        self,
        sdk: Ec2Sdk,
        *,
        terminate: Windows = TERMINATE_WINDOWS,
        describe: Windows = DESCRIBE_WINDOWS,
        launches: Rate = RUN_INSTANCES,
    ) -> None:
        self._sdk = sdk
        self._launches = RateLimiter(launches)
        self._tags = RateLimiter(CREATE_TAGS)
        self._refused: set[str] = set()
        self._terminating: Batcher[str, CloudError | None] = Batcher(self._terminate_batch, terminate)
        self._describing: Batcher[str, Instance | None] = Batcher(self._describe_batch, describe)

    async def launch(self, request: LaunchRequest) -> tuple[Instance, ...]:
        if problem := request.problem():
            raise InvalidRequest(problem)
        await self._launches.take()
        answer = await self._sdk.run_instances(**run_instances_parameters(request))
        launched = sorted(map(to_instance, answer["Instances"]), key=lambda instance: instance.launch_index)
        if all(instance.gone for instance in launched):
            # For a used-up token AWS has answered both ways over the years: with the terminated instances and,
            # since 2025, with IdempotentInstanceTerminated (https://github.com/boto/boto3/issues/4406).
            raise TokenConflict("the token's instances are terminated", action="RunInstances")
        return tuple(launched)

    def launch_wait_s(self, ahead: int = 0) -> float:
        return self._launches.wait_s(ahead)

    def tokens(self) -> dict[str, float]:
        """Calls that may be made at once, by action; below 0 while calls wait for their turn."""
        return {"RunInstances": self._launches.level(), "CreateTags": self._tags.level()}

    async def describe(
        self, *, tags: Mapping[str, str], states: Collection[InstanceState] = ALL_STATES
    ) -> list[Instance]:
        wanted = filters({"instance-state-name": sorted(states)}, tags)
        return [to_instance(instance) for instance in await self._sdk.describe_instances(wanted)]

    async def describe_ids(self, ids: Collection[str]) -> list[Instance]:
        found = await self._describing.submit(ids)
        return [instance for instance in found if instance is not None]

    async def terminate(self, ids: Collection[str]) -> None:
        await self._terminating.submit(ids)

    async def tag(self, ids: Collection[str], tags: Mapping[str, str]) -> None:
        if not ids or not tags:
            return
        await self._tags.take()
        listed = [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
        await self._sdk.create_tags(list(ids), listed)

    async def close(self) -> None:
        """Cancel calls that still wait for their batch."""
        await self._terminating.close()
        await self._describing.close()

    async def _describe_batch(self, ids: list[str]) -> list[Instance | None]:
        # By filter, because with InstanceIds a single unknown id makes AWS refuse the whole call.
        answer = await self._sdk.describe_instances(filters({"instance-id": ids}))
        found = {instance.id: instance for instance in map(to_instance, answer)}
        return [found.get(id_) for id_ in ids]

    async def _terminate_batch(self, ids: list[str]) -> list[CloudError | None]:
        """For each id why it is not ended, None if it is.

        One instance that may not be terminated makes AWS refuse all that are named with it. Those that it refused alone
        go in a call of their own, so that nobody is kept back by them a second time.
        """
        refusals: dict[str, CloudError] = {}
        splits = itertools.count()
        others = [id_ for id_ in ids if id_ not in self._refused]
        refused_before = [id_ for id_ in ids if id_ in self._refused]
        for group in filter(None, (others, refused_before)):
            refusals |= await self._terminate(group, splits)
        return [refusals.get(id_) for id_ in ids]

    async def _terminate(self, ids: list[str], splits: Iterator[int]) -> dict[str, CloudError]:
        """End these; those that cannot be are found by halves, in as many splits as a batch may take."""
        ids, error = await self._terminate_known(ids)
        if error is None:
            self._refused.difference_update(ids)
            return {}
        passing = isinstance(error, (Throttled, Unreachable))
        if len(ids) > 1 and not passing and next(splits) < _MOST_SPLITS:
            half = len(ids) // 2
            return {**await self._terminate(ids[:half], splits), **await self._terminate(ids[half:], splits)}
        if len(ids) == 1 and not passing:
            self._refused.update(ids)
        return dict.fromkeys(ids, error)

    async def _terminate_known(self, ids: list[str]) -> tuple[list[str], CloudError | None]:
        """On an unknown id AWS refuses the whole call: leave out those it names and ask again.

        Returns what was asked for last, and why it is refused.
        """
        while ids:
            try:
                await self._sdk.terminate_instances(ids)
            except CloudError as error:
                unknown = set(re.findall(r"\bi-[0-9a-f]+\b", error.message))
                known = [id_ for id_ in ids if id_ not in unknown]
                if not isinstance(error, NotFound) or len(known) == len(ids):
                    return ids, error
                ids = known
            else:
                break
        return ids, None


def run_instances_parameters(request: LaunchRequest) -> dict[str, Any]:
    """RunInstances' parameters; the same request always gives the same ones, or its token would not match."""
    interface: dict[str, Any] = {
        "DeviceIndex": 0,
        "SubnetId": request.subnet_id,
        "Groups": list(request.security_group_ids),
        "DeleteOnTermination": True,
    }
    if request.secondary_private_ips:
        interface["SecondaryPrivateIpAddressCount"] = request.secondary_private_ips
    if request.associate_public_ip is not None:
        interface["AssociatePublicIpAddress"] = request.associate_public_ip
    parameters: dict[str, Any] = {
        "ClientToken": request.client_token,
        "MinCount": 1,
        "MaxCount": request.count,
        "ImageId": request.image_id,
        "InstanceType": request.instance_type,
        "NetworkInterfaces": [interface],
        # The SDK encodes user data of RunInstances itself.
        "UserData": request.user_data,
        # The pod must not get the instance's role by the old, unauthenticated protocol.
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": request.hop_limit},
        # The dead-man's switch of a cell is a power-off: it has to end the instance, not to keep it stopped.
        "InstanceInitiatedShutdownBehavior": "terminate",
    }
    if request.root_volume_gib is not None:
        parameters["BlockDeviceMappings"] = [_root_volume(request.root_device_name, request.root_volume_gib)]
    if request.instance_profile:
        key = "Arn" if request.instance_profile.startswith("arn:") else "Name"
        parameters["IamInstanceProfile"] = {key: request.instance_profile}
    if request.market == "spot":
        parameters["InstanceMarketOptions"] = {
            "MarketType": "spot",
            "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"},
        }
    if request.dedicated:
        parameters["Placement"] = {"Tenancy": "dedicated"}
    if request.tags:
        tags = [{"Key": key, "Value": value} for key, value in sorted(request.tags.items())]
        parameters["TagSpecifications"] = [
            {"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume", "network-interface")
        ]
    return parameters


def _root_volume(device: str, gib: int) -> Answer:
    volume = {"VolumeSize": gib, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
    return {"DeviceName": device, "Ebs": volume}


def to_instance(answer: Answer) -> Instance:
    """An instance from AWS's description of it."""
    interfaces = sorted(
        answer.get("NetworkInterfaces", []), key=lambda nic: nic.get("Attachment", {}).get("DeviceIndex", 0)
    )
    addresses = interfaces[0].get("PrivateIpAddresses", []) if interfaces else []
    reason = answer.get("StateReason") or {}
    return Instance(
        id=answer["InstanceId"],
        state=answer["State"]["Name"],
        instance_type=answer["InstanceType"],
        zone=answer.get("Placement", {}).get("AvailabilityZone", ""),
        subnet_id=answer.get("SubnetId"),
        network_interface_id=interfaces[0].get("NetworkInterfaceId") if interfaces else None,
        private_ip=answer.get("PrivateIpAddress"),
        secondary_ips=tuple(a["PrivateIpAddress"] for a in addresses if not a.get("Primary")),
        launch_index=answer.get("AmiLaunchIndex", 0),
        client_token=answer.get("ClientToken", ""),
        launch_time=answer["LaunchTime"],
        tags={tag["Key"]: tag["Value"] for tag in answer.get("Tags", [])},
        market="spot" if answer.get("InstanceLifecycle") == "spot" else "on-demand",
        dedicated=answer.get("Placement", {}).get("Tenancy") == "dedicated",
        state_reason=reason.get("Message") or reason.get("Code") or None,
    )
