"""The Helm chart beside the manifests of deploy/, and before the real API server."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kip import config

pytestmark = pytest.mark.integration

Object = dict[str, Any]
Kubectl = Callable[..., subprocess.CompletedProcess[str]]

ROLE, PROFILE = "arn:aws:iam::012345678910:role/kip", "arn:aws:iam::012345678910:instance-profile/kip-cell"
VARIABLES = {
    "CLUSTER_NAME": "shop",
    "USE_REGION": "us-west-2",
    "KIP_SERVICE_ACCOUNT_ROLE_ARN": ROLE,
    "CLUSTER_SECURITY_GROUP": "sg-1",
    "SUBNET_IDS": "subnet-1,subnet-2",
    "VPC_ID": "vpc-1",
    "CELL_INSTANCE_PROFILE_ARN": PROFILE,
    "NAMESPACE": "tools",
    "IMAGE_REGISTRY": "registry.example.com/team",
    "IMAGE_TAG": "1.2",
    "ECR_LOGINS": "false",
    "NFS_VOLUME_ENDPOINT": "fs-1.efs.us-west-2.amazonaws.com:/",
}
VALUES = {
    "clusterName": "shop",
    "region": "us-west-2",
    "serviceAccount": {"roleARN": ROLE},
    "clusterSecurityGroup": "sg-1",
    "subnetIDs": ["subnet-1", "subnet-2"],
    "vpcID": "vpc-1",
    "instanceProfile": PROFILE,
    "ecrLogins": {"enabled": False},
    "image": {"repository": "registry.example.com/team/kip", "tag": "1.2"},
    "imageCache": {"endpoint": "fs-1.efs.us-west-2.amazonaws.com:/"},
}


@pytest.fixture
def chart(project: Path, helm_program: Path) -> Callable[..., str]:
    def render(**values: Any) -> str:
        given = [f"--set-json={key}={json.dumps(value)}" for key, value in values.items()]
        command = [helm_program, "template", "kip", project / "charts" / "kip", "--namespace=tools", *given]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    return render


@pytest.fixture
def manifests(project: Path, programs: Path, tmp_path: Path) -> Callable[[str], str]:
    """What deploy.sh has rendered, by what it does: kubectl notes what it is to apply."""
    stand_in = tmp_path / "bin" / "kubectl"
    stand_in.parent.mkdir()
    stand_in.write_text(
        f"""#!/bin/sh
case "$*" in
kustomize*) exec {programs}/kubectl "$@" ;;
apply*) cat "$3" >>{tmp_path}/applied ;;
*"get job"*) echo 1/ ;;
"get namespace"*) echo namespace/tools ;;
esac
"""
    )
    stand_in.chmod(0o755)

    def run(action: str) -> str:
        done = subprocess.run(
            [project / "deploy" / "deploy.sh", *action.split()],
            env={"PATH": f"{stand_in.parent}:{os.environ['PATH']}", **VARIABLES},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        applied = tmp_path / "applied"
        return done.stdout if action == "--dry-run" else applied.read_text()

    return run


def objects(text: str) -> dict[tuple[str, str], Object]:
    """By kind, namespace and name, without what only one of the two ways to install has."""
    found = {}
    for o in filter(None, yaml.safe_load_all(text)):
        metadata = o["metadata"]
        name = metadata["name"]
        if o["kind"] == "ConfigMap":
            name = name.rpartition("-")[0] if name.count("-") > 1 else name
        metadata["name"] = "config" if o["kind"] == "ConfigMap" else name
        found[o["kind"], f"{metadata.get('namespace', '')}/{metadata['name']}"] = in_substance(o)
    return found


def in_substance(o: Object) -> Object:
    metadata = o["metadata"]
    metadata["labels"] = {
        k: v for k, v in metadata.get("labels", {}).items() if k == "app.kubernetes.io/name"
    }
    metadata["annotations"] = {
        k: v for k, v in metadata.get("annotations", {}).items() if "helm.sh/" not in k
    }
    if template := o["spec"].get("template") if "spec" in o else None:
        template["metadata"].pop("annotations", None)
        for volume in template["spec"]["volumes"]:
            if "configMap" in volume:
                volume["configMap"] = "config"
    return {key: value for key, value in o.items() if value}


def settings(o: Object, directory: Path) -> config.Settings:
    file = directory / "provider.yaml"
    file.write_text(o["data"]["provider.yaml"])
    loaded, warnings = config.load(file, {})
    assert not warnings
    return loaded


def split(found: dict[tuple[str, str], Object]) -> Iterator[dict[tuple[str, str], Object]]:
    """The installation, and what is there while it is being removed."""
    leaving = {key: o for key, o in found.items() if key[1].endswith("kip-uninstall")}
    yield {key: o for key, o in found.items() if key not in leaving}
    yield leaving


def test_both_ways_install_the_same(chart, manifests, tmp_path: Path) -> None:
    by_helm, _ = split(objects(chart(**VALUES)))
    by_script = objects(manifests("--dry-run"))
    namespace = by_script.pop(("Namespace", "/tools"))
    assert namespace["metadata"]["labels"]["app.kubernetes.io/name"] == "kip"
    assert {name for kind, name in by_script if kind == "Deployment"} == {
        "tools/kip-provider",
        "tools/kip-image-cache",
    }
    configs = [found.pop(("ConfigMap", "tools/config")) for found in (by_helm, by_script)]
    assert settings(configs[0], tmp_path) == settings(configs[1], tmp_path)
    assert by_helm.keys() == by_script.keys()
    for key, o in by_script.items():
        assert by_helm[key] == o, key


def test_both_ways_remove_the_same(chart, manifests, tmp_path: Path) -> None:
    _, by_helm = split(objects(chart(**VALUES)))
    by_script = objects(manifests("--uninstall"))
    settings(by_script.pop(("ConfigMap", "tools/config")), tmp_path)
    assert by_helm.keys() == by_script.keys()
    for key, o in by_script.items():
        if key[0] != "Job":
            assert by_helm[key] == o, key
    ours, theirs = (
        found["Job", "tools/kip-uninstall"]["spec"]["template"]["spec"] for found in (by_script, by_helm)
    )
    assert ours["serviceAccountName"] == theirs["serviceAccountName"] == "kip-provider"
    [our_container], [their_container] = ours["containers"], theirs["containers"]
    for same in ("image", "securityContext", "resources", "volumeMounts"):
        assert our_container[same] == their_container[same]
    assert our_container["args"][:4] == their_container["args"][:4]


def test_what_the_chart_renders_is_accepted(chart, kubectl: Kubectl) -> None:
    """Everything that a cluster without the Prometheus Operator knows, in a namespace that is there."""
    text = chart(**VALUES, networkPolicy={"enabled": True}, unreachableToleration={"enabled": True}).replace(
        "namespace: tools\n", "namespace: default\n"
    )
    answer = kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)
    assert answer.returncode == 0, answer.stderr
    assert "deployment.apps/kip-provider" in answer.stdout
    assert not [line for line in answer.stderr.splitlines() if "last-applied-configuration" not in line]


@pytest.fixture
def policy(chart, kubectl: Kubectl) -> Iterator[None]:
    text = chart(**VALUES, unreachableToleration={"enabled": True, "seconds": 7200})
    found = [o for o in yaml.safe_load_all(text) if o and o["kind"].startswith("MutatingAdmissionPolicy")]
    assert len(found) == 2
    bundle = json.dumps({"apiVersion": "v1", "kind": "List", "items": found})
    assert kubectl("create", "-f", "-", stdin=bundle).returncode == 0
    yield
    kubectl("delete", "-f", "-", stdin=bundle)


ON_CELLS = {"key": "virtual-kubelet.io/provider", "operator": "Exists"}
UNREACHABLE = "node.kubernetes.io/unreachable"


def patience(kubectl: Kubectl, *tolerations: Object) -> dict[str, Any]:
    """Seconds for which a pod with these tolerations bears a node's failure, by the taint."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "kip-policy-", "namespace": "default"},
        "spec": {"containers": [{"name": "x", "image": "x"}], "tolerations": [*tolerations]},
    }
    answer = kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(pod))
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)["spec"]["tolerations"]
    return {
        t["key"].rpartition("/")[2]: t.get("tolerationSeconds") for t in found if t["key"].startswith("node.")
    }


@pytest.mark.usefixtures("policy")
def test_pods_for_cells_outlive_an_outage_of_kip_by_what_is_configured(kubectl: Kubectl) -> None:
    deadline = 40
    while (
        patience(kubectl, ON_CELLS)["unreachable"] == 300 and deadline
    ):  # a policy counts after some moments
        deadline -= 1
    assert patience(kubectl, ON_CELLS) == {"unreachable": 7200, "not-ready": 7200}
    assert patience(kubectl) == {"unreachable": 300, "not-ready": 300}
    own = {"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}
    assert patience(kubectl, ON_CELLS, own) == {"unreachable": 60, "not-ready": 7200}
    for_ever = {"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute"}
    assert patience(kubectl, ON_CELLS, for_ever) == {"unreachable": None, "not-ready": 7200}
