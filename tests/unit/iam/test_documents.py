"""The shipped policies, and what they become for one installation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from kip.iam import documents
from kip.iam.documents import ADDONS, BASE, DOCUMENT, actions, merged, statements, template
from kip.iam.narrow import Installation, narrow

ALL = (BASE, *ADDONS)
# A managed policy has at most so many characters, white space not counted.
MANAGED_POLICY_CHARACTERS = 6144


def resources(policy: documents.Policy) -> Iterator[tuple[str, str]]:
    """(statement's Sid, resource)."""
    for statement in policy["Statement"]:
        given = statement["Resource"]
        for resource in [given] if isinstance(given, str) else given:
            yield statement["Sid"], resource


@pytest.mark.parametrize("name", [DOCUMENT, *ALL])
def test_each_is_a_policy_as_it_is(name: str) -> None:
    policy = template(name)
    assert policy["Version"] == "2012-10-17"
    for statement in policy["Statement"]:
        assert set(statement) <= {"Sid", "Effect", "Action", "Resource", "Condition"}
        assert re.fullmatch(r"[A-Za-z0-9]*", statement["Sid"])
        assert statement["Effect"] == "Allow"
        assert all(re.fullmatch(r"[a-z0-9-]+:[A-Za-z]+", action) for action in actions(statement))
    for _, resource in resources(policy):
        assert resource == "*" or re.fullmatch(r"arn:\*:[a-z0-9-]+:\*?:\*?:[a-z*-]+[/*].*", resource)


def test_all_of_them_together_fit_into_one_policy_and_have_names_of_their_own() -> None:
    policy = narrow(merged(ALL), EVERYTHING)
    assert len(json.dumps(policy, separators=(",", ":"))) <= MANAGED_POLICY_CHARACTERS
    sids = [statement["Sid"] for statement in policy["Statement"]]
    assert len(sids) == len(set(sids))


def test_the_statements_for_an_action_say_which_policy_they_are_of() -> None:
    assert [(name, s["Sid"]) for name, s in statements("ec2:CreateTags")] == [
        ("policy", "TagWhatIsBeingMade"),
        ("policy", "TagCellsForTheirPods"),
    ]
    assert [name for name, _ in statements("pricing:GetProducts")] == ["market"]
    assert not list(statements("ec2:StopInstances"))


EVERYTHING = Installation(
    account="012345678910", region="us-west-2", cluster="shop", vpc="vpc-1", roles=("kip-cell", "kip-gpu")
)


def test_for_an_installation_hardly_anything_is_open() -> None:
    policy = narrow(merged(ALL), EVERYTHING)
    assert "arn:*" not in json.dumps(policy)
    assert '"?*"' not in json.dumps(policy)
    for sid, resource in resources(policy):
        region, account, rest = (resource.split(":", 5) + [""] * 5)[3:6]
        if resource == "*" or rest.startswith(("image/", "snapshot/")):
            continue
        assert account == "012345678910" or (account, sid) in {
            ("*", "LaunchFromWhatIsThere"),
            ("*", "MakeItInAVpc"),
            ("*", "RouteToCells"),
        }, f"{sid}: {resource}"
        assert region == "us-west-2" or ":iam:" in resource


@pytest.mark.parametrize(
    ("sid", "expected"),
    [
        ("Look", {"StringEquals": {"aws:RequestedRegion": "us-west-2"}}),
        ("EndCellsOnly", {"StringEquals": {"aws:ResourceTag/kip.elotl.co/cluster": "shop"}}),
        ("RouteToCells", {"ArnLike": {"ec2:Vpc": "arn:aws:ec2:us-west-2:*:vpc/vpc-1"}}),
        # These two are not about where, and stay.
        (
            "TagWhatIsBeingMade",
            {"StringEquals": {"ec2:CreateAction": ["CreateSecurityGroup", "RunInstances"]}},
        ),
        ("GiveCellsAnInstanceProfile", {"StringLike": {"iam:PassedToService": "ec2.amazonaws.com*"}}),
    ],
)
def test_conditions_become_exact(sid: str, expected: dict[str, Any]) -> None:
    (statement,) = [s for s in narrow(template(BASE), EVERYTHING)["Statement"] if s["Sid"] == sid]
    assert statement["Condition"] == expected


def test_roles_that_pods_may_have_are_named() -> None:
    found = dict.fromkeys(r for sid, r in resources(narrow(template(BASE), EVERYTHING)) if ":iam:" in r)
    assert list(found) == [
        "arn:aws:iam::012345678910:role/kip-cell",
        "arn:aws:iam::012345678910:role/kip-gpu",
    ]


def test_what_is_not_known_stays_open() -> None:
    assert narrow(template(BASE), Installation()) == template(BASE)
    some = json.dumps(narrow(template(BASE), Installation(account="012345678910")))
    assert "arn:*:ec2:*:012345678910:instance/*" in some
    assert '"aws:RequestedRegion": "*"' in some


@pytest.mark.parametrize(
    ("region", "partition"),
    [
        ("eu-west-1", "aws"),
        ("cn-north-1", "aws-cn"),
        ("us-gov-east-1", "aws-us-gov"),
        ("eusc-de-east-1", "aws-eusc"),
    ],
)
def test_arns_are_of_the_regions_partition(region: str, partition: str) -> None:
    policy = narrow(template(BASE), Installation(region=region))
    assert {r.split(":")[1] for _, r in resources(policy) if r != "*"} == {partition}
