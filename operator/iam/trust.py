"""Who may be Kip: the trust policy of its role."""

from __future__ import annotations

import json

from kip.iam.documents import Policy, template
from kip.iam.narrow import partition_of

#: The service account of the manifests and the chart.
SERVICE_ACCOUNT = "kip-provider"


def irsa(
    *, account: str, oidc_provider: str, namespace: str, service_account: str, region: str | None = None
) -> Policy:
    """For a role of the service account (IRSA), which the cluster's OIDC provider vouches for.

    `oidc_provider` may be a URL, an ARN, or what both end in. Without the region that is the one in its name.
    """
    provider = oidc_provider.removeprefix("https://").rpartition(":oidc-provider/")[2].rstrip("/")
    filled = _filled("trust-policy", account, namespace, service_account, {"$OIDC_PROVIDER": provider})
    partition = partition_of(region or _region_in(provider))
    for statement in filled["Statement"]:
        statement["Principal"]["Federated"] = statement["Principal"]["Federated"].replace(
            "arn:aws:", f"arn:{partition}:", 1
        )
    return filled


def pod_identity(
    *,
    account: str,
    namespace: str,
    service_account: str,
    region: str | None = None,
    cluster: str | None = None,
) -> Policy:
    """For a role that EKS Pod Identity gives to the service account, by an association.

    With both `region` and `cluster`, the name that EKS has for it, in that cluster only.
    """
    filled = _filled("trust-pod-identity", account, namespace, service_account, {})
    if region and cluster:
        arn = f"arn:{partition_of(region)}:eks:{region}:{account}:cluster/{cluster}"
        for statement in filled["Statement"]:
            statement["Condition"]["StringEquals"]["aws:RequestTag/eks-cluster-arn"] = arn
    return filled


def _filled(name: str, account: str, namespace: str, service_account: str, more: dict[str, str]) -> Policy:
    text = json.dumps(template(name))
    values = {"$AWS_ACCOUNT_ID": account, "$NAMESPACE": namespace, SERVICE_ACCOUNT: service_account, **more}
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    found: Policy = json.loads(text)
    return found


def _region_in(provider: str) -> str:
    """Of `oidc.eks.us-west-2.amazonaws.com/id/…`; any other name is taken to be of AWS's usual partition."""
    parts = provider.split(".")
    return parts[2] if parts[:2] == ["oidc", "eks"] and len(parts) > 2 else ""
