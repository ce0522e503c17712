"""Dry runs of what changes something: EC2 checks the permission, and as far as it does that then the request, and stops.

A permission that holds for things with Kip's tag only can be tried only on a thing that has it: on a cell, or on the
security group. Without one there is no telling.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from kip.cloud import catalogue
from kip.cloud.base import Instance, LaunchRequest
from kip.cloud.ec2 import run_instances_parameters
from kip.cloud.errors import CloudError, NotAuthorized, Throttled, Unreachable
from kip.cloud.routes import RouteTable
from kip.cloud.sdk import Answer, Ec2Sdk
from kip.cloud.securitygroup import creation, permissions, wanted_rules
from kip.doctor.asking import Asking
from kip.doctor.facts import CONFIGURED, NOT_ASKED, Fact, Facts, Tried, Unanswered
from kip.model import names

PASS_ROLE = "iam:PassRole"  # noqa: S105 - a permission's name

_DRY_RUN = "DryRunOperation"
# TEST-NET-1 (RFC 5737): nobody's real route is for it.
_NOWHERE = "192.0.2.0/24"
_NO_CELL = Unanswered("not asked", "there is no cell to try it on")
_NO_GROUP = Unanswered(
    "not asked", "the cells' security group has not been made yet, so there is none to try it on"
)

Call = Callable[[], Awaitable[Any]]


async def dry_run(asking: Asking, call: Call) -> Fact[Tried]:
    """What became of a call with DryRun set."""

    async def tried() -> Tried:
        try:
            await call()
        except (NotAuthorized, Throttled, Unreachable):
            raise
        except CloudError as error:
            # Whatever else EC2 objects to, it was not the permission.
            return Tried("" if error.code == _DRY_RUN else error.summary)
        # AWS never does that. What has been done, harms as little as it can: a launch but costs.
        raise CloudError("this endpoint knows no dry runs, and has made the call")

    return await asking.ask(tried)


def calls(sdk: Ec2Sdk, facts: Facts) -> Iterator[tuple[str, Call | Unanswered]]:
    """(permission, a dry run that needs it, or why there is none)."""
    yield from _launches(sdk, facts)
    yield from _on_a_cell(sdk, facts)
    yield from _on_the_group(sdk, facts)
    yield from _routes(sdk, facts)


def _launches(sdk: Ec2Sdk, facts: Facts) -> Iterator[tuple[str, Call | Unanswered]]:
    request = launch_request(facts)
    profile = facts.settings.cells.default_iam_permissions
    if isinstance(request, Unanswered):
        yield "ec2:RunInstances", request
        if profile:
            yield PASS_ROLE, request
        return
    yield "ec2:RunInstances", lambda: _launch(sdk, request)
    if profile:
        with_profile = replace(request, instance_profile=profile)
        yield PASS_ROLE, lambda: _launch(sdk, with_profile)


def launch_request(facts: Facts) -> LaunchRequest | Unanswered:
    """A cell as it would be launched: without user data, which EC2 does not look into, and in the first subnet."""
    kind = facts.settings.cells.default_instance_type
    image = facts.images.get(CONFIGURED) or facts.images.get(f"{_architecture(kind)} standard", NOT_ASKED)
    if (
        isinstance(facts.subnets, Unanswered)
        or isinstance(image, Unanswered)
        or not isinstance(facts.cluster, str)
    ):
        return NOT_ASKED
    own = facts.own_group if isinstance(facts.own_group, Mapping) else None
    groups = ([str(own["GroupId"])] if own else []) + sorted(
        facts.extra_groups if isinstance(facts.extra_groups, Mapping) else ()
    )
    return LaunchRequest(
        client_token="doctor",  # noqa: S106 - not sent
        count=1,
        instance_type=kind,
        image_id=image.id,
        subnet_id=facts.subnets[0].id,
        security_group_ids=tuple(groups),
        user_data=b"",
        root_volume_gib=max(image.root_volume_gib, -(-facts.settings.cells.default_volume_size // 2**30)),
        root_device_name=image.root_device_name,
        tags={
            names.TAG_CLUSTER: facts.cluster,
            names.TAG_NODE: facts.settings.kubelet.node_names[0],
            names.TAG_NAME: "Kip doctor",
        },
    )


def _architecture(instance_type: str) -> str:
    """As Kubernetes names it; the usual one for types newer than the catalogue."""
    known = (kind for kind in catalogue.everything() if kind.name == instance_type)
    return next((kind.architecture for kind in known), "amd64")


async def _launch(sdk: Ec2Sdk, request: LaunchRequest) -> Answer:
    parameters = run_instances_parameters(request)
    # A token is for calls that launch.
    del parameters["ClientToken"]
    return await sdk.run_instances(**parameters, DryRun=True)


def _on_a_cell(sdk: Ec2Sdk, facts: Facts) -> Iterator[tuple[str, Call | Unanswered]]:
    tried: Mapping[str, Callable[[Instance], Call]] = {
        "ec2:TerminateInstances": lambda cell: lambda: sdk.terminate_instances([cell.id], DryRun=True),
        "ec2:CreateTags": lambda cell: (
            lambda: sdk.create_tags(
                [cell.id], [{"Key": names.TAG_NAME, "Value": cell.tags.get(names.TAG_NAME, "")}], DryRun=True
            )
        ),
        "ec2:ModifyInstanceAttribute": lambda cell: (
            lambda: sdk.modify_instance_attribute(
                InstanceId=cell.id, SourceDestCheck={"Value": True}, DryRun=True
            )
        ),
    }
    cells = facts.cells
    for permission, on in tried.items():
        if isinstance(cells, Unanswered):
            yield permission, NOT_ASKED
        else:
            yield permission, on(cells[0]) if cells else _NO_CELL


def _on_the_group(sdk: Ec2Sdk, facts: Facts) -> Iterator[tuple[str, Call | Unanswered]]:
    if isinstance(facts.subnets, Unanswered) or not isinstance(facts.cluster, str):
        yield "ec2:CreateSecurityGroup", NOT_ASKED
    else:
        made = creation(facts.cluster, facts.subnets[0].vpc_id)
        yield "ec2:CreateSecurityGroup", lambda: sdk.create_security_group(**made, DryRun=True)
    group = facts.own_group
    rules = wanted_rules([_NOWHERE])
    listed = permissions(rules, rules)
    tried: Mapping[str, Callable[[str], Call]] = {
        "ec2:AuthorizeSecurityGroupIngress": lambda id_: (
            lambda: sdk.authorize_security_group_ingress(GroupId=id_, IpPermissions=listed, DryRun=True)
        ),
        "ec2:RevokeSecurityGroupIngress": lambda id_: (
            lambda: sdk.revoke_security_group_ingress(GroupId=id_, IpPermissions=listed, DryRun=True)
        ),
        "ec2:DeleteSecurityGroup": lambda id_: lambda: sdk.delete_security_group(id_, DryRun=True),
    }
    for permission, on in tried.items():
        if isinstance(group, Unanswered):
            yield permission, NOT_ASKED
        else:
            yield permission, _NO_GROUP if group is None else on(str(group["GroupId"]))


def _routes(sdk: Ec2Sdk, facts: Facts) -> Iterator[tuple[str, Call | Unanswered]]:
    table = _table(facts)
    target = _target(facts)
    if isinstance(table, Unanswered):
        yield "ec2:CreateRoute", table
        yield "ec2:DeleteRoute", table
        return
    where = {"RouteTableId": table.id, "DestinationCidrBlock": _NOWHERE, "DryRun": True}
    if target is None:
        yield "ec2:CreateRoute", _NO_CELL
    else:
        yield "ec2:CreateRoute", lambda: sdk.create_route(**where, NetworkInterfaceId=target)
    yield "ec2:DeleteRoute", lambda: sdk.delete_route(**where)


def _table(facts: Facts) -> RouteTable | Unanswered:
    if isinstance(facts.tables, Unanswered) or not facts.tables:
        return NOT_ASKED
    return facts.tables[0]


def _target(facts: Facts) -> str | None:
    cells = () if isinstance(facts.cells, Unanswered) else facts.cells
    return next((cell.network_interface_id for cell in cells if cell.network_interface_id), None)
