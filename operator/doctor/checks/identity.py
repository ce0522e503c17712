"""Of where in AWS, and as whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kip.doctor.access import SERVICE_ACCOUNT
from kip.doctor.checks.remedies import not_known
from kip.doctor.facts import Facts, Identity, Unanswered
from kip.doctor.finding import Finding, Remedy, failure, ok, unknown, warning

_WEB_IDENTITY, _POD_IDENTITY, _INSTANCE = "assume-role-with-web-identity", "container-role", "iam-role"
_SOURCES: Mapping[str, str] = {
    _WEB_IDENTITY: "by the role of the service account (IRSA)",
    _POD_IDENTITY: "by EKS Pod Identity",
    _INSTANCE: "by the role of the node",
    "explicit": "by the keys in provider.yaml",
    "env": "by keys in the environment",
}


def place(facts: Facts) -> Iterator[Finding]:
    """Region, and VPC or subnets."""
    what = "place of the cells"
    found = facts.location
    if isinstance(found, Unanswered) and not facts.in_cluster and facts.settings.cloud.aws.region:
        why = "provider.yaml leaves it to where Kip runs, and that is not here"
        yield unknown(what, why, in_the_cluster(facts.settings.cluster.namespace))
        return
    if isinstance(found, Unanswered):
        remedy = Remedy(
            text="set cloud.aws.region, and cloud.aws.subnetID or cloud.aws.vpcID, in provider.yaml"
        )
        yield failure(what, found.why, remedy)
        return
    tags = ", ".join(f"{key}={value}" for key, value in found.subnet_tags.items())
    where = ", ".join(found.subnet_ids) or (
        f"subnets with {tags}" if tags else found.vpc_id or "the default VPC"
    )
    yield ok(what, f"{found.region}, {where}")


def credentials(facts: Facts) -> Iterator[Finding]:
    """Who AWS takes us for, and whether that is the operator."""
    what = "AWS credentials"
    if isinstance(facts.credentials, Unanswered):
        if facts.credentials.reason == "not asked":
            yield not_known(facts, what, facts.credentials)
        else:
            yield failure(what, facts.credentials.why, _log_in(facts))
        return
    source = _SOURCES.get(facts.credentials, f"by {facts.credentials}")
    if isinstance(facts.identity, Unanswered):
        if facts.identity.reason == "denied":
            yield failure(what, f"{source}: {facts.identity.why}", _log_in(facts))
        else:
            yield not_known(facts, what, Unanswered(facts.identity.reason, f"{source}: {facts.identity.why}"))
        return
    yield from _of(facts, what, f"{facts.identity.arn}, {source}", facts.credentials)


def _of(facts: Facts, what: str, who: str, source: str) -> Iterator[Finding]:
    if facts.in_cluster and source == _INSTANCE:
        why = f"{who}: every pod on that node has it, and it has to have Kip's policy"
        yield warning(what, why, _give_a_role(facts))
    elif not facts.in_cluster and not facts.settings.cloud.aws.access_key_id:
        namespace = facts.settings.cluster.namespace
        why = f"{who}: these are yours, and what they may do need not be what Kip may"
        yield warning(what, why, in_the_cluster(namespace))
    else:
        yield ok(what, who)


def _log_in(facts: Facts) -> Remedy:
    if facts.in_cluster or facts.settings.cloud.aws.access_key_id:
        return _give_a_role(facts)
    return Remedy(
        text="these would be yours: log in as for the aws command (AWS_PROFILE, aws sso login, aws configure)",
        command="aws sts get-caller-identity",
    )


def _give_a_role(facts: Facts) -> Remedy:
    account = facts.identity.account if isinstance(facts.identity, Identity) else "ACCOUNT"
    namespace = facts.settings.cluster.namespace
    return Remedy(
        text="give the service account a role of its own (docs/installation.md), then restart Kip's pods",
        command=f"kubectl -n {namespace} annotate serviceaccount {SERVICE_ACCOUNT} --overwrite "
        f"eks.amazonaws.com/role-arn=arn:aws:iam::{account}:role/ROLE",
    )


def in_the_cluster(namespace: str) -> Remedy:
    """To see it as Kip does."""
    return Remedy(
        text="look from where Kip runs, as Kip",
        command=f"kubectl -n {namespace} exec deploy/kip-provider -- kip doctor --in-cluster",
    )
