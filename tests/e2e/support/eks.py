"""What EKS adds to a cluster, as far as Kip meets it: roles for service accounts."""

from __future__ import annotations

from typing import Any

from kip.local.world import World

Object = dict[str, Any]

ROLE = "arn:aws:iam::123456789012:role/kip"
_TOKEN_DIRECTORY = "/var/run/secrets/eks.amazonaws.com/serviceaccount"
_GROUP = "admissionregistration.k8s.io/v1"
_NAME = "eks-pod-identity-webhook"


def pod_identity(world: World) -> list[Object]:
    """What EKS's webhook does to the pods of a service account with a role, here by a policy.

    The pod gets a token for STS, and the variables that lead an SDK to it; and here also the local world's AWS.
    """
    variables = {
        "AWS_ROLE_ARN": ROLE,
        "AWS_WEB_IDENTITY_TOKEN_FILE": f"{_TOKEN_DIRECTORY}/token",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": world.url("aws"),
    }
    patches = [
        _added("containers/0/env", "containers.env", f'name: "{name}", value: "{value}"')
        for name, value in variables.items()
    ]
    mount = f'name: "aws-iam-token", mountPath: "{_TOKEN_DIRECTORY}", readOnly: true'
    token = 'audience: "sts.amazonaws.com", expirationSeconds: 86400, path: "token"'
    source = f"Object.spec.volumes.projected.sources.serviceAccountToken{{{token}}}"
    projected = f"sources: [Object.spec.volumes.projected.sources{{serviceAccountToken: {source}}}]"
    volume = f'name: "aws-iam-token", projected: Object.spec.volumes.projected{{{projected}}}'
    patches += [_added("containers/0/volumeMounts", "containers.volumeMounts", mount)]
    patches += [_added("volumes", "volumes", volume)]
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    policy: Object = {
        "apiVersion": _GROUP,
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": _NAME},
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [rule]},
            "matchConditions": [
                {"name": "ours", "expression": "object.spec.serviceAccountName == 'kip-provider'"}
            ],
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": f"[{', '.join(patches)}]"}}],
        },
    }
    binding: Object = {
        "apiVersion": _GROUP,
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": _NAME},
        "spec": {"policyName": _NAME},
    }
    return [policy, binding]


def _added(path: str, kind: str, fields: str) -> str:
    return f'JSONPatch{{op: "add", path: "/spec/{path}/-", value: Object.spec.{kind}{{{fields}}}}}'
