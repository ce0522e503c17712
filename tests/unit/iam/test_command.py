"""`kip iam`: what it prints."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kip import cli

ACCOUNT = ("--account", "012345678910")
OIDC = "oidc.eks.us-west-2.amazonaws.com/id/AAAABBBB"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, ["iam", *arguments])


def printed(*arguments: str) -> Any:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def sids(policy: Any) -> set[str]:
    return {statement["Sid"] for statement in policy["Statement"]}


def test_a_policy_is_printed_with_what_was_asked_for() -> None:
    plain = printed("policy", *ACCOUNT, "--region", "us-west-2", "--cluster", "shop")
    more = printed(
        "policy", *ACCOUNT, "--with", "market,metering", "--pass-role", "kip-cell", "--vpc", "vpc-1"
    )
    assert sids(more) - sids(plain) == {"KnowWhatThereIs", "KnowWhatItCosts", "TellAwsMarketplaceTheUse"}
    assert "arn:aws:ec2:us-west-2:012345678910:instance/*" in json.dumps(plain)
    assert "arn:*:iam::012345678910:role/kip-cell" in json.dumps(more)


def test_the_documented_policy_is_printed_when_asked_for() -> None:
    (statement,) = printed("policy", *ACCOUNT, "--documented")["Statement"]
    assert "ec2:ModifyVolume" in statement["Action"]


@pytest.mark.parametrize(
    "oidc", [OIDC, f"https://{OIDC}", f"https://{OIDC}/", f"arn:aws:iam::012345678910:oidc-provider/{OIDC}"]
)
def test_a_trust_policy_takes_the_provider_in_any_form(oidc: str) -> None:
    (statement,) = printed("trust", *ACCOUNT, "--oidc", oidc, "--namespace", "elotl-kip")["Statement"]
    assert statement["Principal"] == {"Federated": f"arn:aws:iam::012345678910:oidc-provider/{OIDC}"}
    assert statement["Condition"]["StringEquals"] == {
        f"{OIDC}:aud": "sts.amazonaws.com",
        f"{OIDC}:sub": "system:serviceaccount:elotl-kip:kip-provider",
    }


def test_the_partition_is_known_by_the_provider_or_the_region() -> None:
    china = "oidc.eks.cn-north-1.amazonaws.com.cn/id/AA"
    for arguments in (("--oidc", china), ("--oidc", "issuer.example/x", "--region", "cn-north-1")):
        (statement,) = printed("trust", *ACCOUNT, *arguments)["Statement"]
        assert statement["Principal"]["Federated"].startswith("arn:aws-cn:iam::012345678910:")


def test_pod_identity_is_trusted_for_this_service_account_only() -> None:
    (statement,) = printed("trust", *ACCOUNT, "--pod-identity", "--service-account", "other")["Statement"]
    assert statement["Principal"] == {"Service": "pods.eks.amazonaws.com"}
    assert statement["Action"] == ["sts:AssumeRole", "sts:TagSession"]
    assert statement["Condition"]["StringEquals"] == {
        "aws:RequestTag/kubernetes-namespace": "kip",
        "aws:RequestTag/kubernetes-service-account": "other",
    }
    (statement,) = printed("trust", *ACCOUNT, "--pod-identity", "--region", "us-west-2", "--cluster", "blue")[
        "Statement"
    ]
    arn = "arn:aws:eks:us-west-2:012345678910:cluster/blue"
    assert statement["Condition"]["StringEquals"]["aws:RequestTag/eks-cluster-arn"] == arn


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("policy",), "--account"),
        (("policy", "--account", "12"), "expected an account's number of 12 digits, not '12'"),
        (("policy", *ACCOUNT, "--region", "Oregon"), "expected a region like us-east-1, not 'Oregon'"),
        (("policy", *ACCOUNT, "--with", "market,prices"), "expected some of market, efs"),
        (("policy", *ACCOUNT, "--pass-role", '"'), "expected a role's name"),
        (("trust", *ACCOUNT), "--oidc PROVIDER or --pod-identity"),
        (("trust", *ACCOUNT, "--oidc", OIDC, "--pod-identity"), "one of them"),
        (("trust", *ACCOUNT, "--pod-identity", "--cluster", "blue"), "--cluster needs --region"),
        (("trust", *ACCOUNT, "--oidc", 'x"y'), "expected the URL of a provider"),
        (("trust", *ACCOUNT, "--oidc", "None"), "not 'None'"),
    ],
)
def test_wrong_usage_says_what_was_expected(arguments: tuple[str, ...], words: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in result.output
