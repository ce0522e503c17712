"""What EC2 does and moto does not: with launches, listings and ends of instances, and with questions about types."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from typing import Any, ClassVar

from moto import settings
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.ec2 import urls, utils
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import instances as moto_instances
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.responses import EC2Response

from kip.cloud import catalogue
from kip.local.aws.account import Account, Launch, fingerprint
from kip.local.aws.backend import SUBNET_ID
from kip.local.aws.instance import LocalInstance
from kip.local.aws.network import LocalSubnet
from kip.local.aws.networking import NetworkCalls

#: EC2's limit for user data, before base64.
MAX_USER_DATA = 16384

#: What spot costs here, of the on-demand price.
SPOT_SHARE = 0.4

#: DescribeInstances filters that moto lacks, and the attribute each compares.
FILTERS = {
    "client-token": "client_token",
    "instance-lifecycle": "lifecycle",
    "launch-index": "launch_index",
    "network-interface.addresses.private-ip-address": "network_addresses",
    "metadata-options.http-tokens": "metadata_options.http_tokens",
    "reservation-id": "reservation_id",
}


class LocalEC2Response(NetworkCalls):
    """moto's EC2 API and what it lacks. One object serves one request."""

    account: ClassVar[Account]

    # moto answers "pending" to every RunInstances; a repeated one has to tell the present state.
    RESPONSE_KEY_PATH_TO_TRANSFORMER = {  # noqa: RUF012 — as the base class declares it
        key: value
        for key, value in EC2Response.RESPONSE_KEY_PATH_TO_TRANSFORMER.items()
        if key != "RunInstances.Reservation.Instances.Instance.State"
    }

    def run_instances(self) -> ActionResult:
        token = self._get_param("ClientToken")
        used_for = fingerprint({key: value for key, value in self.params.items() if key != "DryRun"})
        if token and (launch := self.account.launches.get(token)):
            return self._repeat(launch, used_for)
        self._check_instance_type()
        self._check_user_data()
        self._check_security_groups()
        self._check_instance_profile()
        # moto starts MinCount instances, whatever MaxCount says.
        self.params["MinCount"] = self._granted()
        result = super().run_instances()
        reservation: Any = result.result
        for instance in reservation.instances:
            self._complete(instance, reservation.id)
        if token:
            self.account.launches[token] = Launch(used_for, reservation.id)
        return result

    # moto answers these three whole, 4 MB of XML and for all regions' types; EC2 pages them.

    def describe_instance_types(self) -> ActionResult:
        here = {o["InstanceType"] for o in self.ec2_backend.describe_instance_type_offerings("region")}
        answer: Any = super().describe_instance_types().result
        return self._page("InstanceTypes", [t for t in answer["InstanceTypes"] if t["InstanceType"] in here])

    def describe_instance_type_offerings(self) -> ActionResult:
        answer: Any = super().describe_instance_type_offerings().result
        return self._page("InstanceTypeOfferings", answer["InstanceTypeOfferings"])

    def describe_spot_price_history(self) -> ActionResult:
        """moto has one price for everything; here it is a share of the on-demand price, the same for all types."""
        answer: Any = super().describe_spot_price_history().result
        prices = {
            kind.name: f"{kind.usd_per_hour * SPOT_SHARE:.6f}"
            for kind in catalogue.load(self.account.backend.site.region)
            if kind.usd_per_hour is not None and kind.spot
        }
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        history = [
            {**entry, "SpotPrice": prices[entry["InstanceType"]], "Timestamp": now}
            for entry in answer["SpotPriceHistory"]
            if entry["InstanceType"] in prices
        ]
        return self._page("SpotPriceHistory", history)

    def _page(self, key: str, entries: list[Any]) -> ActionResult:
        """As many as are asked for; the token is where the next page begins."""
        begin, most = (
            int(self._get_param("NextToken") or 0),
            int(self._get_param("MaxResults") or len(entries)),
        )
        page: dict[str, Any] = {key: entries[begin : begin + most]}
        if begin + most < len(entries):
            page["NextToken"] = str(begin + most)
        return ActionResult(page)

    def describe_instances(self) -> ActionResult:
        try:
            return super().describe_instances()
        except NotImplementedError as error:
            raise EC2ClientError("InvalidParameterValue", f"The local AWS: {error}") from error

    def terminate_instances(self) -> ActionResult:
        ids = self._get_param("InstanceIds", [])
        for id_ in ids:
            if not re.fullmatch(r"i-[0-9a-f]{8,17}", id_):
                raise EC2ClientError("InvalidInstanceID.Malformed", f'Invalid id: "{id_}"')
        unknown = [id_ for id_ in ids if self.account.instance(id_) is None]
        if unknown:
            does = "ID {} does" if len(unknown) == 1 else "IDs {} do"
            names = f"'{', '.join(unknown)}'"
            raise EC2ClientError("InvalidInstanceID.NotFound", f"The instance {does.format(names)} not exist")
        return super().terminate_instances()

    def create_tags(self) -> ActionResult:
        """moto tags instances that there are not."""
        for id_ in self._get_param("Resources", []):
            if id_.startswith("i-") and self.account.instance(id_) is None:
                raise EC2ClientError("InvalidInstanceID.NotFound", f"The instance ID '{id_}' does not exist")
        return super().create_tags()

    def _repeat(self, launch: Launch, used_for: str) -> ActionResult:
        """The answer to a token that was used before.

        For a terminated instance EC2 has answered both ways over the years (with the instance, and with
        IdempotentInstanceTerminated: https://github.com/boto/boto3/issues/4406); what it says when only some of a
        batch are terminated is not documented. Here it is the error when all are.
        """
        if launch.fingerprint != used_for:
            raise EC2ClientError(
                "IdempotentParameterMismatch",
                "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
            )
        reservation = self.account.backend.reservations.get(launch.reservation_id)
        if reservation is None or all(instance.state == "terminated" for instance in reservation.instances):
            raise EC2ClientError(
                "IdempotentInstanceTerminated",
                "The client token you have provided is associated with a terminated instance."
                " Please use a different client token.",
            )
        return ActionResult(reservation)

    def _check_instance_type(self) -> None:
        kind = self._get_param("InstanceType")
        if kind not in INSTANCE_TYPES:
            raise EC2ClientError("InvalidParameterValue", f"Invalid value '{kind}' for InstanceType.")

    def _check_user_data(self) -> None:
        try:
            size = len(base64.b64decode(str(self._get_param("UserData", "")), validate=True))
        except ValueError as error:
            raise EC2ClientError(
                "InvalidUserData.Malformed", f"Invalid BASE64 encoding of user data: {error}"
            ) from error
        if size > MAX_USER_DATA:
            raise EC2ClientError("InvalidParameterValue", f"User data is limited to {MAX_USER_DATA} bytes")

    def _granted(self) -> int:
        """How many instances this call gets: as many as it wants, there is capacity and there are addresses for."""
        least, most = int(self._get_param("MinCount", 1)), int(self._get_param("MaxCount", 1))
        if not 1 <= least <= most:
            raise EC2ClientError(
                "InvalidParameterValue",
                f"MinCount {least} and MaxCount {most}: at least 1, MinCount the lower one",
            )
        capacity = most if self.account.max_grant is None else min(most, self.account.max_grant)
        subnet = self._subnet()
        if capacity < least:
            kind = self._get_param("InstanceType", "")
            raise EC2ClientError(
                "InsufficientInstanceCapacity",
                f"We currently do not have sufficient {kind} capacity in the Availability Zone you requested"
                f" ({subnet.availability_zone}).",
            )
        room = subnet.available_ip_address_count // self._addresses_per_instance()
        if room < least:
            raise subnet.no_free_addresses()
        return min(capacity, room)

    def _interfaces(self) -> list[dict[str, Any]]:
        interfaces: list[dict[str, Any]] = self._get_param("NetworkInterfaces", [])
        return interfaces

    def _addresses_per_instance(self) -> int:
        interfaces = self._interfaces() or [{}]
        return sum(1 + int(nic.get("SecondaryPrivateIpAddressCount") or 0) for nic in interfaces)

    def _subnet(self) -> LocalSubnet:
        named = next((nic["SubnetId"] for nic in self._interfaces() if "SubnetId" in nic), None)
        subnet = self.account.backend.get_subnet(named or self._get_param("SubnetId", SUBNET_ID))
        if not isinstance(subnet, LocalSubnet):
            raise EC2ClientError(
                "InvalidParameterValue",
                f"The local AWS boots instances in its own subnets, like {SUBNET_ID}, not in {subnet.id}",
            )
        return subnet

    def _check_security_groups(self) -> None:
        """moto makes up a group that it does not find."""
        for group_id in {group for nic in self._interfaces() for group in nic.get("Groups", [])}:
            if self.account.backend.get_security_group_from_id(group_id) is None:
                raise EC2ClientError(
                    "InvalidGroup.NotFound", f"The security group '{group_id}' does not exist"
                )

    def _check_instance_profile(self) -> None:
        """moto answers with IAM's own error for a profile that there is not."""
        kinds = {"name": "Name", "arn": "Arn"}
        named = {kind: self._get_param(f"IamInstanceProfile.{key}") for kind, key in kinds.items()}
        try:
            utils.filter_iam_instance_profiles(
                self.current_account, self.partition, named["arn"], named["name"]
            )
        except ServiceException as error:
            kind, value = next((kind, value) for kind, value in named.items() if value)
            raise EC2ClientError(
                "InvalidParameterValue",
                f"Value ({value}) for parameter iamInstanceProfile.{kind} is invalid. Invalid IAM Instance Profile {kind}",
            ) from error

    def _complete(self, instance: LocalInstance, reservation_id: str) -> None:
        instance.reservation_id = reservation_id
        instance.boot(self.account.boot_delay)
        # moto takes every instance for one on shared hardware.
        instance.placement.tenancy = self._get_param("Placement.Tenancy") or "default"
        instance.add_tags(self.account.launch_tags)
        for interface in instance.nics.values():
            interface.add_tags(self._parse_tag_specification().get("network-interface", {}))


def install(account: Account) -> None:
    """Put our classes where moto looks for its own, and make it check what EC2 checks."""
    LocalEC2Response.account = account
    settings.ENABLE_AMI_VALIDATION = True
    urls.url_paths["{0}/"] = LocalEC2Response.dispatch
    utils.filter_dict_attribute_mapping.update(FILTERS)
    # By its name, because mypy takes a class in a module for a constant.
    setattr(moto_instances, "Instance", LocalInstance)  # noqa: B010
