"""Of what AWS allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from kip.doctor.checks.remedies import allow
from kip.doctor.facts import NOT_ASKED, Fact, Facts, Tried, Unanswered
from kip.doctor.finding import Finding, Remedy, failure, ok, unknown, warning


class Row(NamedTuple):
    """One permission."""

    permission: str
    needed: bool
    """False where Kip does without it."""
    without: str
    """What does not work then."""


_LOOK = "Kip cannot see what there is"
_ROUTED = "pods with the annotation cloud-route run without their routes"
LOOKING = (
    Row("ec2:DescribeAvailabilityZones", True, _LOOK),
    Row("ec2:DescribeVpcs", True, _LOOK),
    Row("ec2:DescribeSubnets", True, _LOOK),
    Row("ec2:DescribeSecurityGroups", True, _LOOK),
    Row("ec2:DescribeImages", True, _LOOK),
    Row("ec2:DescribeInstances", True, _LOOK),
    Row("ec2:DescribeRouteTables", False, _ROUTED),
)
DOING = (
    Row("ec2:CreateSecurityGroup", True, "the cells' security group cannot be made"),
    Row("ec2:AuthorizeSecurityGroupIngress", True, "the cells' security group lets nobody in"),
    Row("ec2:RunInstances", True, "no cell can be launched"),
    Row("iam:PassRole", True, "no cell with the configured instance profile can be launched"),
    Row("ec2:TerminateInstances", True, "cells cannot be ended, and go on costing"),
    Row("ec2:CreateTags", False, "instances do not get the tags of their pods"),
    Row(
        "ec2:RevokeSecurityGroupIngress", False, "rules of the security group that are no longer wanted stay"
    ),
    Row("ec2:DeleteSecurityGroup", False, "kip cleanup cannot remove the security group"),
    Row("ec2:CreateRoute", False, _ROUTED),
    Row("ec2:DeleteRoute", False, "routes to cells that are gone stay"),
    Row("ec2:ModifyInstanceAttribute", False, _ROUTED),
)
_BUNDLED = "the types and prices that came with Kip are used"
KNOWING = (
    Row("ec2:DescribeInstanceTypes", False, _BUNDLED),
    Row("ec2:DescribeInstanceTypeOfferings", False, _BUNDLED),
    Row("ec2:DescribeSpotPriceHistory", False, "spot prices are not known"),
    Row("pricing:GetProducts", False, "the prices that came with Kip are used"),
)
PULLING = (
    Row(
        "ecr:GetAuthorizationToken",
        False,
        "images in ECR are pulled with the pods' own pull secrets or the cells' instance profile alone",
    ),
)
_TRY_LATER = Remedy(
    text="let a pod run on a cell, then ask again; the policy that kip iam prints allows it",
    command="kubectl run kip-doctor --image=public.ecr.aws/docker/library/busybox --restart=Never "
    '--overrides=\'{"spec":{"nodeSelector":{"type":"virtual-kubelet"},"tolerations":[{"operator":"Exists"}]}}\' '
    "-- sleep 600",
)


def looking(facts: Facts) -> Iterator[Finding]:
    """Those of which each is a call about nothing."""
    yield from _all(facts, LOOKING)


def doing(facts: Facts) -> Iterator[Finding]:
    """Those that are tried by dry runs."""
    yield from _all(facts, DOING)


def knowing(facts: Facts) -> Iterator[Finding]:
    """Those that only make Kip's choices better (`kip iam policy --with market`)."""
    yield from _all(facts, KNOWING)


def pulling(facts: Facts) -> Iterator[Finding]:
    """Those by which pods pull with Kip's role (`kip iam policy --with ecr`); nothing where they shall not."""
    if facts.settings.registries.ecr_logins.enabled:
        yield from _all(facts, PULLING)


def _all(facts: Facts, rows: tuple[Row, ...]) -> Iterator[Finding]:
    later: dict[str, list[str]] = {}
    for row in rows:
        if row.permission == "iam:PassRole" and row.permission not in facts.calls:
            continue  # no instance profile is configured
        found = facts.calls.get(row.permission, NOT_ASKED)
        if isinstance(found, Unanswered) and found.reason == "not asked":
            later.setdefault(found.why, []).append(row.permission)
        else:
            yield _judged(facts, row, found)
    for why, permissions in later.items():
        yield unknown(", ".join(permissions), why, None if why == NOT_ASKED.why else _later(why))


def _later(why: str) -> Remedy | None:
    return _TRY_LATER if "to try it on" in why else None


def _judged(facts: Facts, row: Row, found: Fact[Tried]) -> Finding:
    if isinstance(found, Tried):
        return _allowed(row, found)
    if found.reason != "denied":
        return unknown(row.permission, found.why)
    # A launch may lack another permission than its own: that for tags, or for the profile's role.
    named = found.permission or row.permission
    bad = failure if row.needed and not _not_needed_now(facts, row) else warning
    return bad(row.permission, f"{row.without}: {found.why}", allow(facts, named, found.why))


def _allowed(row: Row, found: Tried) -> Finding:
    # EC2 looks at the rest of a launch too; of the other calls the rest is made up here.
    if found.objection and row.permission in ("ec2:RunInstances", "iam:PassRole"):
        return failure(row.permission, f"allowed, but EC2 would refuse a cell: {found.objection}")
    return ok(row.permission, "allowed")


def _not_needed_now(facts: Facts, row: Row) -> bool:
    """A group that is there need not be made."""
    return row.permission == "ec2:CreateSecurityGroup" and isinstance(facts.own_group, Mapping)
