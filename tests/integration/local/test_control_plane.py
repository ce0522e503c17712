"""The control plane behaves as a real cluster's."""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kip.local.build import KUBERNETES, program

pytestmark = pytest.mark.integration

NODE = "unit-node"


class Kubectl:
    """Real kubectl with one kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self._command = [str(program(KUBERNETES, "kubectl")), "--kubeconfig", str(kubeconfig)]

    def run(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._command, *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def __call__(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def apply(self, manifest: dict[str, Any]) -> None:
        done = self.run("apply", "-f", "-", given=json.dumps(manifest))
        assert done.returncode == 0, done.stderr

    def refused(self, *arguments: str, given: str | None = None) -> str:
        done = self.run(*arguments, given=given)
        assert done.returncode != 0, f"kubectl {' '.join(arguments)} was allowed: {done.stdout}"
        return done.stderr

    def eventually(self, *arguments: str, holds: Callable[[str], bool], seconds: float = 60) -> str:
        deadline = time.monotonic() + seconds
        while not holds(seen := self(*arguments)):
            assert time.monotonic() < deadline, (
                f"after {seconds} s kubectl {' '.join(arguments)} says {seen!r}"
            )
            time.sleep(0.1)
        return seen


@pytest.fixture
def admin(control_plane: Any) -> Kubectl:
    return Kubectl(control_plane.kubeconfig)


@pytest.fixture
def node(control_plane: Any) -> Kubectl:
    return Kubectl(control_plane.client_kubeconfig(f"system:node:{NODE}", ["system:nodes"]))


@pytest.fixture
def namespace(admin: Kubectl) -> Iterator[str]:
    name = f"t-{secrets.token_hex(4)}"
    admin("create", "namespace", name)
    admin.eventually(
        "-n",
        name,
        "get",
        "serviceaccounts",
        "-o",
        "name",
        holds=lambda seen: "serviceaccount/default" in seen,
    )
    yield name
    admin("delete", "namespace", name, "--wait=false")


def pod(namespace: str, node: str | None = None, **spec: Any) -> dict[str, Any]:
    containers = [{"name": "main", "image": "demo.kip.local/web:1", **spec}]
    bound = {"nodeName": node} if node else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod", "namespace": namespace},
        "spec": {"containers": containers, **bound},
    }


def test_kips_types_are_served(admin: Kubectl) -> None:
    assert "No resources found" in admin.run("get", "cells").stderr


def test_its_version_is_the_one_that_was_asked_for(admin: Kubectl) -> None:
    told = json.loads(admin("version", "-o", "json"))
    assert told["serverVersion"]["gitVersion"] == told["clientVersion"]["gitVersion"] == KUBERNETES.version


def test_a_pod_without_a_node_stays_pending_and_the_scheduler_says_why(
    admin: Kubectl, namespace: str
) -> None:
    admin.apply(pod(namespace))
    path = "-o=jsonpath={.status.phase} {.status.conditions[?(@.type=='PodScheduled')].reason}"
    admin.eventually(
        "-n", namespace, "get", "pod", "pod", path, holds=lambda seen: seen == "Pending Unschedulable"
    )


def test_a_user_without_permissions_is_refused(control_plane: Any) -> None:
    nobody = Kubectl(control_plane.client_kubeconfig("nobody"))
    assert "forbidden" in nobody.refused("get", "pods")


def test_a_node_reads_the_secrets_of_its_own_pods_only(admin: Kubectl, node: Kubectl, namespace: str) -> None:
    for name in ("used", "other"):
        admin("-n", namespace, "create", "secret", "generic", name, "--from-literal=a=b")
    used = [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "used", "key": "a"}}}]
    admin.apply(pod(namespace, NODE, env=used))

    def readable(name: str) -> bool:
        return node.run("-n", namespace, "get", "secret", name).returncode == 0

    deadline = time.monotonic() + 60
    while not readable("used"):
        assert time.monotonic() < deadline, "the Node authorizer does not let the node read its pod's secret"
        time.sleep(0.05)
    assert "no relationship found" in node.refused("-n", namespace, "get", "secret", "other")


def test_a_node_may_not_write_another_node(node: Kubectl) -> None:
    other = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "other-node"}}
    assert "is not allowed to modify node" in node.refused("create", "-f", "-", given=json.dumps(other))


def test_a_nodes_serving_certificate_is_signed_by_the_authority_that_is_verified(
    admin: Kubectl, node: Kubectl, control_plane: Any
) -> None:
    name, key = "unit-serving", ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{NODE}"),
        ]
    )
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NODE)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoded = base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode()
    manifest = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {
            "request": encoded,
            "signerName": "kubernetes.io/kubelet-serving",
            "usages": ["digital signature", "server auth"],
        },
    }
    done = node.run("create", "-f", "-", given=json.dumps(manifest))
    assert done.returncode == 0, done.stderr
    try:
        admin("certificate", "approve", name)
        path = "-o=jsonpath={.status.certificate}"
        signed = admin.eventually("get", "csr", name, path, holds=bool)
    finally:
        admin("delete", "csr", name)
    certificate = x509.load_pem_x509_certificate(base64.b64decode(signed))
    authority = x509.load_pem_x509_certificate(control_plane.certificate_authority.read_bytes())
    certificate.verify_directly_issued_by(authority)


def test_the_aggregation_layers_authority_is_published(admin: Kubectl) -> None:
    found = admin("-n", "kube-system", "get", "configmap", "extension-apiserver-authentication", "-o", "json")
    assert {"client-ca-file", "requestheader-client-ca-file"} <= json.loads(found)["data"].keys()


def test_a_service_account_gets_tokens_that_are_accepted(
    admin: Kubectl, control_plane: Any, namespace: str
) -> None:
    token = admin("-n", namespace, "create", "token", "default").strip()
    flags = [
        "--server",
        control_plane.server,
        "--certificate-authority",
        str(control_plane.certificate_authority),
    ]
    bearer = Kubectl(Path("/dev/null")).run(*flags, "--token", token, "auth", "whoami", "-o", "json")
    assert bearer.returncode == 0, bearer.stderr
    told = json.loads(bearer.stdout)["status"]["userInfo"]["username"]
    assert told == f"system:serviceaccount:{namespace}:default"


def test_a_deployments_pods_are_made(admin: Kubectl, namespace: str) -> None:
    admin("-n", namespace, "create", "deployment", "web", "--image=demo.kip.local/web:1", "--replicas=2")
    admin.eventually("-n", namespace, "get", "pods", "-o", "name", holds=lambda seen: len(seen.split()) == 2)
