"""A policy for one installation: what the shipped one leaves open becomes its account, region, cluster, VPC and roles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kip.iam.documents import Policy, Statement
from kip.model.names import TAG_CLUSTER

_REGION_KEY = "aws:RequestedRegion"
_TAG_KEYS = frozenset((f"aws:RequestTag/{TAG_CLUSTER}", f"aws:ResourceTag/{TAG_CLUSTER}"))
# In a shared VPC these belong to another account, whose number is then in their ARNs.
_MAY_BE_SHARED = ("subnet/", "security-group/", "vpc/", "route-table/")
# Whose security groups they are is known: only Kip's own have the tag.
_OWN_BY_TAG = "security-group/"

_PARTITIONS = (
    ("cn-", "aws-cn"),
    ("us-gov-", "aws-us-gov"),
    ("us-iso-", "aws-iso"),
    ("us-isob-", "aws-iso-b"),
    ("us-isof-", "aws-iso-f"),
    ("eu-isoe-", "aws-iso-e"),
    ("eusc-", "aws-eusc"),
)


@dataclass(frozen=True, kw_only=True)
class Installation:
    """What is known of an installation; what is not stays open."""

    account: str | None = None
    region: str | None = None
    cluster: str | None = None
    """As in the tag `kip.elotl.co/cluster`: `cluster.name` of provider.yaml."""
    vpc: str | None = None
    roles: Sequence[str] = ()
    """Names of the roles that cells may get by their instance profile."""

    @property
    def partition(self) -> str | None:
        """The first part of its ARNs; None when the region is not known."""
        return None if self.region is None else partition_of(self.region)


def partition_of(region: str) -> str:
    """`aws`, or that of a region of its own world, like China's."""
    return next((name for prefix, name in _PARTITIONS if region.startswith(prefix)), "aws")


def narrow(policy: Policy, where: Installation) -> Policy:
    """The same policy with less left open."""
    return {**policy, "Statement": [narrow_statement(s, where) for s in policy["Statement"]]}


def narrow_statement(statement: Statement, where: Installation) -> Statement:
    """One statement of it."""
    resources = statement["Resource"]
    owned = _by_tag(statement)
    found: list[str] = []
    for resource in [resources] if isinstance(resources, str) else resources:
        found += _resources(resource, where, owned=owned)
    narrowed = {**statement, "Resource": found[0] if len(found) == 1 else found}
    if "Condition" in statement:
        narrowed["Condition"] = _conditions(statement["Condition"], where)
    return narrowed


def _by_tag(statement: Statement) -> bool:
    tests = (statement.get("Condition") or {}).values()
    return any(key in _TAG_KEYS for test in tests for key in test)


def _resources(resource: str, where: Installation, *, owned: bool) -> list[str]:
    filled = _arn(resource, where, owned=owned)
    if where.roles and filled.endswith(":role/*"):
        return [f"{filled[:-1]}{role}" for role in where.roles]
    return [filled]


def _arn(text: str, where: Installation, *, owned: bool = False) -> str:
    """An ARN with its open parts filled in; anything else as it is."""
    parts = text.split(":", 5)
    if len(parts) < 6 or parts[0] != "arn":
        return text
    _, partition, service, region, account, rest = parts
    if rest == "vpc/*" and where.vpc:
        rest = f"vpc/{where.vpc}"
    shared = rest.startswith(_MAY_BE_SHARED) and not (owned and rest.startswith(_OWN_BY_TAG))
    return ":".join(
        (
            "arn",
            where.partition or partition if partition == "*" else partition,
            service,
            where.region or region if region == "*" else region,
            where.account or account if account == "*" and not shared else account,
            rest,
        )
    )


def _conditions(conditions: dict[str, dict[str, Any]], where: Installation) -> dict[str, dict[str, Any]]:
    """Tests of a text with `*` become tests for the very text, where that is known."""
    exact: dict[str, Any] = {}
    found: dict[str, dict[str, Any]] = {}
    for operator, tests in conditions.items():
        for key, value in tests.items():
            known = _known(key, where) if operator == "StringLike" else None
            if known is not None:
                exact[key] = known
            elif operator.startswith("Arn"):
                found.setdefault(operator, {})[key] = _arn(value, where)
            else:
                found.setdefault(operator, {})[key] = value
    if exact:
        found["StringEquals"] = {**found.get("StringEquals", {}), **exact}
    return found


def _known(key: str, where: Installation) -> str | None:
    if key == _REGION_KEY:
        return where.region
    return where.cluster if key in _TAG_KEYS else None
