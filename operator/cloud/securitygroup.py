"""The security group that the cells of a cluster share: found again, and brought to the rules that are wanted.

Whose a rule is, its description says: Kip's begin with `kip: `. A description is part of the call that makes the rule,
so there is no moment at which a rule of Kip's is without it; tags on rules would need one more permission. Every other
rule is somebody else's, and neither counted as Kip's nor taken away.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import structlog

from kip.cloud.base import SecurityGroup
from kip.cloud.errors import CloudError, NotAuthorized, NotFound
from kip.cloud.sdk import Answer, Ec2Sdk, filters
from kip.model import names

log = structlog.get_logger(__name__)

SSH = 22
OWN = "kip: "
_SSH, _PODS = f"{OWN}SSH", f"{OWN}pods and nodes"
_CELLS = "cells"

# Other processes, one for each virtual node, look after the same group. AWS refuses all rules of a call for one that is
# there already; what is missing then has to be looked up again.
_TRIES = 4
_RACES_LOST = frozenset(("InvalidPermission.Duplicate", "InvalidGroup.Duplicate"))


@dataclass(frozen=True, order=True, slots=True)
class Rule:
    """Who may send what to a cell: IPv4 addresses, and `-1` for everything or a protocol with ports."""

    protocol: str
    ports: tuple[int, int] | None
    cidr: str


@dataclass(frozen=True, slots=True)
class Changes:
    """What has to be done to a group."""

    missing: tuple[Rule, ...]
    surplus: tuple[Rule, ...]
    """Rules that Kip made and no longer wants."""


def wanted_rules(cidrs: Collection[str]) -> dict[Rule, str]:
    """Ingress of a cell, with descriptions.

    Pods reach each other on every port, as Kubernetes demands; and an address of the interface is the pod's, so that a
    group cannot tell the pod from the cell. SSH, from the operator, stands alone nevertheless: it stays when
    somebody narrows the rule for everything. The operator is a pod and may be on any node, so its side is the ranges.
    """
    ranges = sorted({str(ipaddress.IPv4Network(cidr)) for cidr in cidrs})
    ssh = {Rule("tcp", (SSH, SSH), cidr): _SSH for cidr in ranges}
    return ssh | {Rule("-1", None, cidr): _PODS for cidr in ranges}


def rules_of(group: Answer) -> dict[Rule, str]:
    """A group's ingress from IPv4 ranges, with descriptions. Kip makes no rules of other kinds."""
    return {
        Rule(permission["IpProtocol"], _ports(permission), ip_range["CidrIp"]): ip_range.get(
            "Description", ""
        )
        for permission in group.get("IpPermissions", [])
        for ip_range in permission.get("IpRanges", [])
    }


def changes(present: Mapping[Rule, str], cidrs: Collection[str]) -> Changes:
    """What to add for these ranges, and what to take back: of Kip's own rules only."""
    wanted = wanted_rules(cidrs)
    own = {rule for rule, description in present.items() if description.startswith(OWN)}
    return Changes(
        missing=tuple(sorted(wanted.keys() - present.keys())), surplus=tuple(sorted(own - wanted.keys()))
    )


def permissions(rules: Iterable[Rule], descriptions: Mapping[Rule, str]) -> list[Answer]:
    """Rules as the calls to authorize and revoke want them."""
    by_kind: dict[tuple[str, tuple[int, int] | None], list[Answer]] = {}
    for rule in rules:
        entry = {"CidrIp": rule.cidr}
        if rule in descriptions:
            entry["Description"] = descriptions[rule]
        by_kind.setdefault((rule.protocol, rule.ports), []).append(entry)
    return [
        {
            "IpProtocol": protocol,
            **({"FromPort": ports[0], "ToPort": ports[1]} if ports else {}),
            "IpRanges": ranges,
        }
        for (protocol, ports), ranges in by_kind.items()
    ]


def security_group_name(cluster: str) -> str:
    """Name of the security group that a cluster's cells share."""
    return f"kip-{cluster}-cells"


def creation(cluster: str, vpc_id: str) -> Answer:
    """The parameters of the call that makes the group, with the tags by which it is found again."""
    name = security_group_name(cluster)
    tags = {names.TAG_NAME: name, names.TAG_CLUSTER: cluster, names.TAG_PURPOSE: _CELLS}
    return {
        "GroupName": name,
        "Description": f"Cells of the Kip cluster {cluster}",
        "VpcId": vpc_id,
        "TagSpecifications": [
            {
                "ResourceType": "security-group",
                "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
            }
        ],
    }


class CellSecurityGroups:
    """The group, by the calls of EC2."""

    def __init__(self, sdk: Ec2Sdk) -> None:
        self._sdk = sdk
        self._told: set[Rule] = set()

    async def ensure(self, cluster: str, vpc_id: str, cidrs: Collection[str]) -> str:
        """Id of the group, made when it is missing, with the rules for these ranges; raises CloudError."""
        for tries_left in reversed(range(_TRIES)):
            try:
                group = await self.find(cluster, vpc_id) or await self._create(cluster, vpc_id)
                await self._reconcile(group, cidrs)
            except CloudError as error:
                if error.code not in _RACES_LOST or not tries_left:
                    raise
            else:
                return str(group["GroupId"])
        raise AssertionError("the last try returns or raises")

    async def all(self, cluster: str) -> list[SecurityGroup]:
        """The groups of this cluster's cells in every VPC of the region, as far as Kip has made them."""
        found = await self._sdk.describe_security_groups(filters(tags={names.TAG_CLUSTER: cluster}))
        return [_to_group(answer) for answer in _of_cells(found, security_group_name(cluster))]

    async def naming(self, group_id: str) -> list[SecurityGroup]:
        """The other groups whose ingress names this one; raises CloudError."""
        found = await self._sdk.describe_security_groups(filters({"ip-permission.group-id": group_id}))
        return [_to_group(answer) for answer in found if answer["GroupId"] != group_id]

    async def delete(self, group_id: str) -> None:
        """Delete a group, which may be gone already; raises CloudError (`DependencyViolation` while it is in use)."""
        try:
            await self._sdk.delete_security_group(group_id)
        except NotFound:
            pass

    async def find(self, cluster: str, vpc_id: str) -> Answer | None:
        """The group as EC2 describes it; None when there is none, raises CloudError.

        By its tags; else by its name, which is the cluster's too: its tags may have been taken away.
        """
        name, place = security_group_name(cluster), {"vpc-id": vpc_id}
        tagged = await self._sdk.describe_security_groups(filters(place, {names.TAG_CLUSTER: cluster}))
        found = _of_cells(tagged, name) or await self._sdk.describe_security_groups(
            filters({**place, "group-name": name})
        )
        return found[0] if found else None

    async def _create(self, cluster: str, vpc_id: str) -> Answer:
        return await self._sdk.create_security_group(**creation(cluster, vpc_id))

    async def _reconcile(self, group: Answer, cidrs: Collection[str]) -> None:
        todo = changes(rules_of(group), cidrs)
        if todo.missing:
            await self._sdk.authorize_security_group_ingress(
                GroupId=group["GroupId"], IpPermissions=permissions(todo.missing, wanted_rules(cidrs))
            )
        if todo.surplus:
            await self._revoke(str(group["GroupId"]), todo.surplus)

    async def _revoke(self, group_id: str, surplus: tuple[Rule, ...]) -> None:
        """Cells work with a rule too many, so that a missing permission is told, once, and is no failure."""
        try:
            await self._sdk.revoke_security_group_ingress(
                GroupId=group_id, IpPermissions=permissions(surplus, {})
            )
        except NotFound:
            return  # another process was faster with one of them; the others go at the next look
        except NotAuthorized as error:
            if not self._told.issuperset(surplus):
                self._told.update(surplus)
                log.warning(
                    "rules of the cells' security group that are no longer wanted stay",
                    group=group_id,
                    rules=[f"{rule.protocol} {rule.cidr}" for rule in surplus],
                    error=error.summary,
                )
            return
        log.info("rules revoked", group=group_id, rules=[f"{rule.protocol} {rule.cidr}" for rule in surplus])


def _to_group(answer: Answer) -> SecurityGroup:
    return SecurityGroup(id=answer["GroupId"], name=answer["GroupName"], vpc_id=answer.get("VpcId", ""))


def _of_cells(tagged: Iterable[Answer], name: str) -> list[Answer]:
    """Of the groups with the cluster's tag those of the cells, the usual one first."""
    return sorted(_matching(tagged, name), key=lambda group: (group["GroupName"] != name, group["GroupId"]))


def _matching(tagged: Iterable[Answer], name: str) -> Iterator[Answer]:
    for group in tagged:
        tags = {tag["Key"]: tag["Value"] for tag in group.get("Tags", [])}
        # Groups of versions before the tag for the purpose have the name only.
        if group["GroupName"] == name or tags.get(names.TAG_PURPOSE) == _CELLS:
            yield group


def _ports(permission: Answer) -> tuple[int, int] | None:
    if permission["IpProtocol"] == "-1" or "FromPort" not in permission:
        return None
    return permission["FromPort"], permission["ToPort"]
