"""The manifests as the real API server sees them: accepted, and allowing what they are meant to allow."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.doubles.samples import filled

from kip.model.cell import Cell

pytestmark = pytest.mark.integration

Kubectl = Callable[..., subprocess.CompletedProcess[str]]
OPERATOR = "system:serviceaccount:kip:kip-provider"


def deploy_sh(
    project: Path, programs: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [project / "deploy" / "deploy.sh", *arguments],
        env={"PATH": f"{programs}:{os.environ['PATH']}", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


VARIABLES = {
    "CLUSTER_NAME": "shop",
    "USE_REGION": "us-west-2",
    "KIP_SERVICE_ACCOUNT_ROLE_ARN": "arn:aws:iam::012345678910:role/kip",
    # Without it, AWS would be asked where this machine has the aws command.
    "CLUSTER_SECURITY_GROUP": "sg-0123abcd",
}


def test_what_deploy_sh_prints_is_accepted(project: Path, programs: Path, kubectl: Kubectl) -> None:
    printed = deploy_sh(project, programs, "--dry-run", **VARIABLES)
    assert printed.returncode == 0, printed.stderr
    answer = kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=printed.stdout)
    assert answer.returncode == 0, answer.stderr
    for thing in ("deployment.apps/kip-provider", "serviceaccount/kip-provider", "configmap/kip-provider-"):
        assert thing in answer.stdout
    # The world that these tests use prints a warning for objects that were made otherwise; about ours there is none.
    warnings = [line for line in answer.stderr.splitlines() if "last-applied-configuration" not in line]
    assert not warnings


def test_deploy_sh_takes_the_documented_variables(project: Path, programs: Path) -> None:
    printed = deploy_sh(
        project,
        programs,
        "--dry-run",
        **VARIABLES,
        NAMESPACE="elotl-kip",
        IMAGE_REGISTRY="registry.example.com/team",
        IMAGE_TAG="1.2",
        SUBNET_IDS="subnet-1,subnet-2",
        VPC_ID="vpc-1",
        CELL_INSTANCE_PROFILE_ARN="arn:aws:iam::012345678910:instance-profile/kip-cell",
        ECR_LOGINS="false",
        NFS_VOLUME_ENDPOINT="fs-1.efs.us-west-2.amazonaws.com:/",
    )
    assert printed.returncode == 0, printed.stderr
    assert "image: registry.example.com/team/kip:1.2" in printed.stdout
    [configured] = [o for o in yaml.safe_load_all(printed.stdout) if o["kind"] == "ConfigMap"]
    provider = yaml.safe_load(configured["data"]["provider.yaml"])
    assert provider["cells"] == {
        "defaultIAMPermissions": "arn:aws:iam::012345678910:instance-profile/kip-cell",
        "extraSecurityGroups": ["sg-0123abcd"],
        "imageCache": {"endpoint": "fs-1.efs.us-west-2.amazonaws.com:/"},
    }
    assert provider["registries"] == {"ecrLogins": {"enabled": False}}
    assert provider["cloud"]["aws"]["subnetID"] == ["subnet-1", "subnet-2"]
    assert "role-arn: arn:aws:iam::012345678910:role/kip" in printed.stdout
    assert "namespace: kip\n" not in printed.stdout
    assert "namespace: kube-node-lease\n" in printed.stdout
    assert "server: fs-1.efs.us-west-2.amazonaws.com\n" in printed.stdout
    assert not printed.stderr


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("CLUSTER_NAME", "", "CLUSTER_NAME is not set"),
        ("USE_REGION", "nowhere", "USE_REGION=nowhere: expected something like us-west-2"),
        ("KIP_SERVICE_ACCOUNT_ROLE_ARN", "kip", "expected something like arn:aws:iam::"),
        ("NAMESPACE", "a: b", "expected something like kip"),
        ("NFS_VOLUME_ENDPOINT", "fs-1", "expected something like fs-0123abcd.efs."),
        ("ECR_LOGINS", "no", "ECR_LOGINS=no: expected something like false"),
        ("IMAGE_TAG", 'x"\ny: z', "expected something like 1.0-latest"),
    ],
)
def test_deploy_sh_says_which_variable_is_wrong(
    project: Path, programs: Path, name: str, value: str, words: str
) -> None:
    refused = deploy_sh(project, programs, "--dry-run", **{**VARIABLES, name: value})
    assert refused.returncode == 1
    assert words in refused.stderr
    assert not refused.stdout


@pytest.mark.parametrize(
    ("allowed", "verb", "resource", "namespace"),
    [
        (True, "patch", "pods/status", "default"),
        (True, "delete", "pods", "default"),
        (False, "create", "pods", "default"),
        (False, "patch", "pods", "default"),
        (False, "create", "pods/exec", "default"),
        (False, "get", "secrets", "default"),
        (True, "get", "secrets", "kip"),
        (False, "get", "configmaps", "default"),
        (False, "list", "configmaps", "kube-system"),
        (True, "get", "configmaps:extension-apiserver-authentication", "kube-system"),
        (True, "create", "leases.coordination.k8s.io", "kube-node-lease"),
        (True, "patch", "leases.coordination.k8s.io:kip-provider-0", "kube-node-lease"),
        (False, "patch", "leases.coordination.k8s.io:ip-10-0-0-1", "kube-node-lease"),
        (False, "update", "leases.coordination.k8s.io", "kube-node-lease"),
        (True, "update", "leases.coordination.k8s.io", "kip"),
        (False, "patch", "leases.coordination.k8s.io", "kip"),
        (False, "update", "leases.coordination.k8s.io", "default"),
        (True, "patch", "cells.kip.elotl.co", ""),
        (False, "update", "cells.kip.elotl.co", ""),
        (True, "patch", "cells.kip.elotl.co/status", ""),
        (True, "create", "nodes", ""),
        (True, "watch", "nodes", ""),
        (True, "patch", "nodes:kip-provider-0", ""),
        (True, "patch", "nodes/status:kip-provider-0", ""),
        (False, "patch", "nodes:ip-10-0-0-1", ""),
        (False, "patch", "nodes/status:ip-10-0-0-1", ""),
        (False, "delete", "nodes:kip-provider-0", ""),
        (True, "get", "namespaces:kube-system", ""),
        (True, "watch", "namespaces", ""),
        (False, "get", "namespaces:default", ""),
        (True, "update", "certificatesigningrequests.certificates.k8s.io/approval", ""),
        (False, "list", "certificatesigningrequests.certificates.k8s.io", ""),
        (True, "impersonate", "users:system:node:kip-provider-0", ""),
        (False, "impersonate", "users:system:node:ip-10-0-0-1", ""),
        (False, "impersonate", "users:admin", ""),
        (True, "impersonate", "groups:system:nodes", ""),
        (False, "impersonate", "groups:system:masters", ""),
        (True, "approve", "signers.certificates.k8s.io:kubernetes.io/kubelet-serving", ""),
        (False, "approve", "signers.certificates.k8s.io:kubernetes.io/kube-apiserver-client", ""),
        (False, "create", "serviceaccounts/token", "default"),
    ],
)
def test_the_operator_may(kubectl: Kubectl, allowed: bool, verb: str, resource: str, namespace: str) -> None:
    what, _, name = resource.partition(":")
    what, _, subresource = what.partition("/")
    plural, _, group = what.partition(".")
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": OPERATOR,
            "resourceAttributes": {
                "verb": verb,
                "group": group,
                "resource": plural,
                "subresource": subresource,
                "name": name,
                "namespace": namespace,
            },
        },
    }
    answer = kubectl("create", "-o", "json", "-f", "-", stdin=json.dumps(review))
    assert answer.returncode == 0, answer.stderr
    status = json.loads(answer.stdout)["status"]
    assert status["allowed"] is allowed, status.get("reason")


@pytest.fixture
def cell(kubectl: Kubectl) -> Any:
    manifest = {
        "apiVersion": "kip.elotl.co/v1beta1",
        "kind": "Cell",
        "metadata": {"name": "kip-test-cell"},
        "spec": {"nodeName": "kip-provider-0", "podName": "web", "podNamespace": "shop", "podUID": "1-2-3"},
    }
    made = kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    assert made.returncode == 0, made.stderr
    yield manifest["metadata"]["name"]
    kubectl("delete", "cell", manifest["metadata"]["name"])


def test_cells_are_listed_with_what_people_look_for(kubectl: Kubectl, cell: str) -> None:
    status = {
        "phase": "Running",
        "launchType": "Spot",
        "instanceType": "t3.small",
        "instanceID": "i-1",
        "ip": "10.0.0.1",
    }
    patch = json.dumps({"status": status})
    patched = kubectl("patch", "cell", cell, "--subresource=status", "--type=merge", "-p", patch)
    assert patched.returncode == 0, patched.stderr
    head, row = kubectl("get", "cl", cell).stdout.splitlines()
    assert head.split() == [
        "NAME",
        "PHASE",
        "POD",
        "NAMESPACE",
        "NODE",
        "LAUNCH-TYPE",
        "INSTANCE-TYPE",
        "INSTANCE-ID",
        "IP",
        "AGE",
    ]
    assert row.split()[:-1] == [
        cell, "Running", "web", "shop", "kip-provider-0", "Spot", "t3.small", "i-1", "10.0.0.1"
    ]  # fmt: skip


def test_the_wide_list_tells_where_at_which_price_and_why(kubectl: Kubectl, cell: str) -> None:
    launched = {
        "type": "Launched",
        "status": "True",
        "reason": "Launched",
        "message": "the only one that fits",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = {"zone": "us-east-1a", "pricePerHour": "0.0104", "conditions": [launched]}
    patch = json.dumps({"status": status})
    patched = kubectl("patch", "cell", cell, "--subresource=status", "--type=merge", "-p", patch)
    assert patched.returncode == 0, patched.stderr
    head, row = kubectl("get", "cells", cell, "-o", "wide").stdout.splitlines()
    assert head.split()[-5:] == ["IP", "ZONE", "PRICE", "AGE", "LAUNCH-REASON"]
    assert row.endswith("the only one that fits")
    assert row.split()[-7] == "0.0104"
    assert "us-east-1a" in row


def test_everything_that_the_operator_knows_of_a_cell_is_kept(kubectl: Kubectl, cell: str) -> None:
    known = filled(Cell.from_object(json.loads(kubectl("get", "cell", cell, "-o", "json").stdout)))
    patch = json.dumps({"status": known.status()})
    patched = kubectl(
        "patch", "cell", cell, "--subresource=status", "--type=merge", "-p", patch, "-o", "json"
    )
    assert patched.returncode == 0, patched.stderr
    assert json.loads(patched.stdout)["status"] == known.status()


def test_a_cell_stays_its_pods(kubectl: Kubectl, cell: str) -> None:
    refused = kubectl("patch", "cell", cell, "--type=merge", "-p", '{"spec": {"podUID": "4-5-6"}}')
    assert refused.returncode != 0
    assert "spec cannot be changed" in refused.stderr


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"phase": "Done"}, 'Unsupported value: "Done"'),
        ({"pricePerHour": "cheap"}, "should match"),
        ({"launch": {"attempt": 0}}, "clientToken: Required value"),
        (
            {"launch": {"clientToken": "x", "attempt": 0, "count": 1, "index": 0}},
            "requestedAt: Required value",
        ),
        ({"launch": {"clientToken": "x" * 65, "attempt": 0, "count": 1, "index": 0}}, "Too long"),
        ({"conditions": [{"type": "Ready", "status": "Yes"}]}, 'Unsupported value: "Yes"'),
    ],
)
def test_a_status_that_means_nothing_is_refused(
    kubectl: Kubectl, cell: str, status: dict[str, Any], words: str
) -> None:
    patch = json.dumps({"status": status})
    refused = kubectl("patch", "cell", cell, "--subresource=status", "--type=merge", "-p", patch)
    assert refused.returncode != 0
    assert words in refused.stderr
