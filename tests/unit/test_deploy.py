"""What an installation is allowed to do is what the code does, and no more."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kip import config
from kip.cellapi.rules import RULES
from kip.cloud.errors import NotAuthorized

# The policy that the installation guide has always asked for: a role made with it must go on being enough.
DOCUMENTED_ACTIONS = {
    "aws-marketplace:MeterUsage",
    "aws-marketplace:RegisterUsage",
    "ec2:AssociateIamInstanceProfile",
    "ec2:AuthorizeSecurityGroupIngress",
    "ec2:CreateRoute",
    "ec2:CreateSecurityGroup",
    "ec2:CreateTags",
    "ec2:DeleteRoute",
    "ec2:DeleteSecurityGroup",
    "ec2:DescribeAvailabilityZones",
    "ec2:DescribeDhcpOptions",
    "ec2:DescribeImages",
    "ec2:DescribeInstances",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeRouteTables",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVolumes",
    "ec2:DescribeVpcs",
    "ec2:ModifyInstanceAttribute",
    "ec2:ModifyInstanceCreditSpecification",
    "ec2:ModifyVolume",
    "ec2:RevokeSecurityGroupIngress",
    "ec2:RunInstances",
    "ec2:TerminateInstances",
    "ecr:BatchGetImage",
    "ecr:GetAuthorizationToken",
    "ecr:GetDownloadUrlForLayer",
    "iam:PassRole",
}

# Those that the permissions name.
VIRTUAL_NODES = [f"kip-provider-{number}" for number in range(4)]

_VERBS = {"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete"}


@pytest.fixture
def manifests(project: Path) -> Path:
    """What an installation consists of."""
    return project / "deploy" / "kustomize" / "base"


@pytest.fixture
def policy_actions(project: Path) -> set[str]:
    return actions(project / "deploy" / "iam" / "policy.json")


def actions(policy: Path) -> set[str]:
    found: set[str] = set()
    for statement in json.loads(policy.read_text())["Statement"]:
        given = statement["Action"]
        found |= {given} if isinstance(given, str) else set(given)
    return found


def calls(project: Path) -> set[str]:
    """Every call of AWS that there is code for, as IAM names it."""
    sources = [file.read_text() for file in (project / "operator" / "cloud" / "sdk").glob("*.py")]
    made = set(re.findall(r'self\._(?:call|all_pages|paged)\(\s*"(\w+)"', "\n".join(sources)))
    assert {"RunInstances", "TerminateInstances", "DescribeInstances", "GetProducts"} <= made
    return {NotAuthorized("", action=action).permission for action in made}


def test_the_documented_policy_is_enough(policy_actions: set[str]) -> None:
    assert policy_actions <= DOCUMENTED_ACTIONS


def test_the_documented_policy_is_as_documented(project: Path) -> None:
    (statement,) = json.loads((project / "deploy" / "iam" / "document.json").read_text())["Statement"]
    assert set(statement["Action"]) == DOCUMENTED_ACTIONS
    assert (statement["Effect"], statement["Resource"]) == ("Allow", "*")


def test_the_policies_allow_every_call_that_is_made_and_no_other(
    project: Path, policy_actions: set[str]
) -> None:
    iam, made = project / "deploy" / "iam", calls(project)
    # What ECR's registries ask for when an image is pulled is no call of the SDK.
    pulls = actions(iam / "ecr.json") - {"ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"}
    volume = {action for action in actions(iam / "efs.json") if action.startswith("elasticfilesystem:")}
    # A tag in CreateFileSystem asks for it.
    volume.remove("elasticfilesystem:TagResource")
    whole = ("market", "doctor", "metering")
    optional = set().union(pulls, volume, *(actions(iam / f"{name}.json") for name in whole))
    # Who one is everybody may ask.
    assert made - optional - policy_actions == {"sts:GetCallerIdentity"}
    assert optional <= made
    assert not optional & policy_actions
    # PassRole is asked for by launches with an instance profile.
    assert policy_actions - made == {"iam:PassRole"}


def test_pulling_from_ecr_is_in_the_documented_policy(project: Path) -> None:
    assert actions(project / "deploy" / "iam" / "ecr.json") <= DOCUMENTED_ACTIONS


def test_what_is_optional_for_every_day_only_looks(project: Path) -> None:
    for name in ("market", "doctor"):
        for action in actions(project / "deploy" / "iam" / f"{name}.json"):
            assert re.fullmatch(r"(ec2:Describe|(pricing|servicequotas|iam):Get)\w+", action)


def test_only_looking_and_joining_go_without_a_condition(project: Path) -> None:
    policy = json.loads((project / "deploy" / "iam" / "policy.json").read_text())
    places = {"aws:RequestedRegion", "ec2:Vpc"}
    free = {
        statement["Sid"]
        for statement in policy["Statement"]
        if all(set(test) <= places for test in statement.get("Condition", {}).values())
    }
    # Route tables are the user's: no tag of Kip's is on them. The guide says how to do without, or to name a VPC.
    assert free == {"Look", "LaunchFromWhatIsThere", "MakeItInAVpc", "RouteToCells"}


def documents(path: Path) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load_all(path.read_text())


def rules_of(path: Path, kind: str, namespace: str | None = None) -> list[dict[str, Any]]:
    return [
        rule
        for document in documents(path)
        if document["kind"] == kind and document["metadata"].get("namespace") == namespace
        for rule in document["rules"]
    ]


# Every request that Kip makes in its own name, by who makes it; what is passed on for cells goes as the virtual node.
USED = {
    ("", "pods"): {
        "list": "app/sightings.py",
        "watch": "handlers/registry.py",
        "get": "cellapi/pods.py",
        "delete": "cells/report.py",
    },
    ("", "pods/status"): {"patch": "cells/report.py"},
    ("", "events"): {"create": "kube/events.py"},
    ("", "nodes"): {
        "create": "node/keeper.py",
        "get": "node/keeper.py",
        "patch": "node/keeper.py",
        "list": "handlers/registry.py",
        "watch": "handlers/registry.py",
    },
    ("", "nodes/status"): {"patch": "node/keeper.py"},
    ("kip.elotl.co", "cells"): {
        "create": "cells/repository.py",
        "get": "cells/repository.py",
        "list": "cells/repository.py",
        "patch": "cells/repository.py",
        "delete": "cells/repository.py",
        "watch": "handlers/registry.py",
    },
    ("kip.elotl.co", "cells/status"): {"patch": "cells/repository.py"},
    ("", "services"): {"get": "app/cluster.py", "list": "kube/informer.py", "watch": "kube/informer.py"},
    ("discovery.k8s.io", "endpointslices"): {"list": "kube/informer.py", "watch": "kube/informer.py"},
    ("storage.k8s.io", "csidrivers"): {"list": "kube/informer.py", "watch": "kube/informer.py"},
    ("node.k8s.io", "runtimeclasses"): {"list": "kube/informer.py", "watch": "kube/informer.py"},
    ("", "persistentvolumeclaims"): {"get": "cells/neighbourhood.py"},
    ("", "persistentvolumes"): {"get": "cells/neighbourhood.py"},
    ("", "namespaces"): {"get": "app/cluster.py", "list": "kube/informer.py", "watch": "kube/informer.py"},
    ("authentication.k8s.io", "tokenreviews"): {"create": "kubelet/auth.py"},
    ("authorization.k8s.io", "subjectaccessreviews"): {"create": "kubelet/auth.py"},
    ("certificates.k8s.io", "certificatesigningrequests"): {
        "create": "kubelet/certificate.py",
        "get": "kubelet/certificate.py",
        "delete": "kubelet/certificate.py",
    },
    ("certificates.k8s.io", "certificatesigningrequests/approval"): {"update": "kubelet/certificate.py"},
    ("certificates.k8s.io", "signers"): {"approve": "kubelet/certificate.py"},
    ("", "users"): {"impersonate": "cellapi/upstream.py"},
    ("", "groups"): {"impersonate": "cellapi/upstream.py"},
}
USED_IN_NAMESPACES = {
    ("kube-node-lease", "leases"): {"create": "node/keeper.py", "patch": "node/keeper.py"},
    ("kube-system", "configmaps"): {"get": "kubelet/clientca.py"},
    ("kip", "leases"): {"create": "kube/lease.py", "get": "kube/lease.py", "update": "kube/lease.py"},
    ("kip", "secrets"): {
        "create": "kube/secrets.py",
        "get": "kube/secrets.py",
        "list": "kubelet/logs.py",
        "patch": "kubelet/logs.py",
        "delete": "kubelet/logs.py",
    },
}


def verbs_by(rules: list[dict[str, Any]]) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


def test_nothing_is_allowed_that_is_never_asked_for(project: Path, manifests: Path) -> None:
    rbac = manifests / "rbac.yaml"
    assert verbs_by(rules_of(rbac, "ClusterRole")) == {what: set(verbs) for what, verbs in USED.items()}
    namespaced = {
        (namespace, resource): verbs
        for namespace in ("kip", "kube-node-lease", "kube-system")
        for (_, resource), verbs in verbs_by(rules_of(rbac, "Role", namespace)).items()
    }
    assert namespaced == {what: set(verbs) for what, verbs in USED_IN_NAMESPACES.items()}
    for uses in (*USED.values(), *USED_IN_NAMESPACES.values()):
        for file in uses.values():
            assert (project / "operator" / file).is_file(), f"{file} is said to use a permission"


def test_no_node_but_the_virtual_ones_is_changed(manifests: Path) -> None:
    rbac = manifests / "rbac.yaml"
    patching = [
        rule
        for rule in (*rules_of(rbac, "ClusterRole"), *rules_of(rbac, "Role", "kube-node-lease"))
        if "patch" in rule["verbs"] and set(rule["resources"]) & {"nodes", "nodes/status", "leases"}
    ]
    assert len(patching) == 2
    for rule in patching:
        assert rule["verbs"] == ["patch"]
        assert rule["resourceNames"] == VIRTUAL_NODES


def test_no_secret_of_anybody_elses(manifests: Path) -> None:
    rbac = manifests / "rbac.yaml"
    everywhere = {resource for rule in rules_of(rbac, "ClusterRole") for resource in rule["resources"]}
    assert not everywhere & {"secrets", "configmaps", "serviceaccounts", "serviceaccounts/token", "*"}
    for rule in rules_of(rbac, "Role", "kube-system"):
        assert rule["resourceNames"] == ["extension-apiserver-authentication"]


def test_nobody_but_the_virtual_nodes_is_impersonated(manifests: Path) -> None:
    found = [
        rule for rule in rules_of(manifests / "rbac.yaml", "ClusterRole") if "impersonate" in rule["verbs"]
    ]
    assert len(found) == 2
    for rule in found:
        assert rule["resourceNames"]
        assert all(
            re.fullmatch(r"system:(node:kip-provider-\d|nodes)", name) for name in rule["resourceNames"]
        )


def test_without_impersonation_every_passed_request_is_allowed(manifests: Path) -> None:
    allowed = {
        (group, resource, verb)
        for rule in (
            *rules_of(manifests / "rbac.yaml", "ClusterRole"),
            *rules_of(manifests / "rbac-fallback.yaml", "ClusterRole"),
        )
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    passed = {as_permission(rule.method, rule.path) for rule in RULES if rule.verdict == "pass"}
    assert ("", "secrets", "get") in passed
    assert passed <= allowed, "missing in rbac-fallback.yaml"
    needed_only_then = {
        (group, resource, verb)
        for rule in rules_of(manifests / "rbac-fallback.yaml", "ClusterRole")
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert needed_only_then <= passed, "rbac-fallback.yaml allows what no rule passes on"


def as_permission(method: str, path: str) -> tuple[str, str, str]:
    """RBAC's (group, resource, verb) of a rule's path, as the API server reads a request."""
    parts = path.strip("/").split("/")
    group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
    if rest[0] == "namespaces":
        rest = rest[2:]
    resource = "/".join([rest[0], *rest[2:3]])
    return group, resource, _VERBS[method]


def test_the_configuration_that_comes_with_it_is_good(manifests: Path) -> None:
    settings, warnings = config.load(manifests / "provider.yaml", {})
    assert not warnings
    named = {
        name
        for rule in rules_of(manifests / "rbac.yaml", "ClusterRole")
        if rule["resources"] == ["users"]
        for name in rule["resourceNames"]
    }
    assert {f"system:node:{node}" for node in settings.kubelet.node_names} <= named
    assert named == {f"system:node:{node}" for node in VIRTUAL_NODES}


def test_a_namespace_of_ones_own_can_be_filled_in(manifests: Path) -> None:
    """deploy.sh and the chart replace whole lines `namespace: kip`; no object may say it in another way."""
    for path in sorted(manifests.parent.glob("*/*.yaml")):
        name, text = path.name, path.read_text()
        said = len(re.findall(r"namespace: *[\"']?kip\b", text))
        assert said == len(re.findall(r"^ *namespace: kip$", text, re.MULTILINE)), name
        assert text.endswith("\n"), name
