"""The command `kip iam`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import click

from kip.iam import documents, trust
from kip.iam.documents import Policy
from kip.iam.narrow import Installation, narrow


def _matching(pattern: str, expected: str) -> Callable[..., Any]:
    """A check of an option's value, of each of several."""

    def check(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        for given in value if isinstance(value, tuple) else [value]:
            if given is not None and not re.fullmatch(pattern, given, re.ASCII):
                raise click.BadParameter(f"expected {expected}, not {given!r}")
        return value

    return check


def _addons(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(filter(None, (name.strip() for name in value.split(","))))
    for name in names:
        if name not in documents.ADDONS:
            raise click.BadParameter(f"expected some of {', '.join(documents.ADDONS)}, not {name!r}")
    return names


_CLUSTER = _matching(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,98}[A-Za-z0-9])?", "a cluster's name")

# A name with a dot in it, as every issuer has: `aws eks describe-cluster` prints None where there is none.
_OIDC = r"(https://|arn:[^\s\"]*:oidc-provider/)?[^\s\"/:.]+(\.[^\s\"/:.]+)+(/[^\s\"]*)?"

_account = click.option(
    "--account",
    callback=_matching(r"\d{12}", "an account's number of 12 digits"),
    required=True,
    help="Number of the AWS account.",
)
_region = click.option(
    "--region",
    callback=_matching(r"[a-z]{2,4}(-[a-z]+)+-\d+", "a region like us-east-1"),
    help="Region of the cells. Without it any.",
)


@click.group("iam")
def iam() -> None:
    """Print the IAM policies that Kip's role needs, filled in for an installation."""


@iam.command("policy")
@_account
@_region
@click.option(
    "--cluster",
    callback=_CLUSTER,
    help="cluster.name of provider.yaml, else the UID of the namespace kube-system. Without it any cluster's cells.",
)
@click.option(
    "--vpc",
    callback=_matching(r"vpc-[0-9a-z]+", "a VPC's id like vpc-0123abcd"),
    help="The only VPC in which the security group and routes are made.",
)
@click.option(
    "--pass-role",
    "roles",
    multiple=True,
    callback=_matching(r"[\w+=,.@/-]+", "a role's name"),
    help="A role that pods may have by their instance profile. May be repeated. Without it any.",
)
@click.option(
    "--with",
    "addons",
    default="",
    callback=_addons,
    metavar="ADD-ONS",
    help="Add what is optional, with commas between: "
    + "; ".join(f"{name} ({what})" for name, what in documents.ADDONS.items())
    + ".",
)
@click.option(
    "--documented", is_flag=True, help="The wide policy of the product document in place of the narrow one."
)
def policy(
    *,
    account: str,
    region: str | None,
    cluster: str | None,
    vpc: str | None,
    roles: tuple[str, ...],
    addons: tuple[str, ...],
    documented: bool,
) -> None:
    """Print what Kip may do.

    For example:  kip iam policy --account 012345678910 --region us-west-2 --cluster shop --with market >policy.json
    """
    where = Installation(account=account, region=region, cluster=cluster, vpc=vpc, roles=roles)
    base = documents.DOCUMENT if documented else documents.BASE
    _print(narrow(documents.merged([base, *addons]), where))


@iam.command("trust")
@_account
@_region
@click.option(
    "--oidc",
    callback=_matching(_OIDC, "the URL of a provider, like oidc.eks.us-west-2.amazonaws.com/id/AAAABBBB"),
    help="The cluster's OIDC provider, like oidc.eks.us-west-2.amazonaws.com/id/AAAABBBB, for a role by IRSA.",
)
@click.option("--pod-identity", is_flag=True, help="For EKS Pod Identity instead.")
@click.option(
    "--cluster",
    callback=_CLUSTER,
    help="The only EKS cluster that may use the role, together with --region; an OIDC provider is of one anyway.",
)
@click.option(
    "--namespace",
    default="kip",
    show_default=True,
    callback=_matching(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", "a namespace"),
    help="Namespace of Kip.",
)
@click.option(
    "--service-account",
    default=trust.SERVICE_ACCOUNT,
    show_default=True,
    callback=_matching(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", "a service account's name"),
    help="Service account of Kip.",
)
def trust_policy(
    *,
    account: str,
    region: str | None,
    oidc: str | None,
    pod_identity: bool,
    cluster: str | None,
    namespace: str,
    service_account: str,
) -> None:
    """Print who may be Kip: the trust policy of its role."""
    if bool(oidc) == pod_identity:
        raise click.UsageError("give --oidc PROVIDER or --pod-identity, one of them")
    if pod_identity and cluster and not region:
        raise click.UsageError("--cluster needs --region too")
    who: dict[str, Any] = {
        "account": account,
        "namespace": namespace,
        "service_account": service_account,
        "region": region,
    }
    if oidc:
        _print(trust.irsa(oidc_provider=oidc, **who))
    else:
        _print(trust.pod_identity(cluster=cluster, **who))


def _print(document: Policy) -> None:
    click.echo(json.dumps(document, indent=2))
