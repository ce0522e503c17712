"""Manifests in the documents, as the real API server sees them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.docs.pages import Block, pages

from kip.local.waiting import until

pytestmark = pytest.mark.integration

Kubectl = Callable[..., subprocess.CompletedProcess[str]]
NAMESPACE = "default"


def manifests(project: Path) -> Iterator[tuple[Block, list[dict[str, Any]]]]:
    """The blocks that are objects of Kubernetes, in one namespace that there is."""
    for page in pages(project, "*.md", ":!operator"):
        for block in page.blocks("yaml"):
            objects = [found for found in yaml.safe_load_all(block.text) if isinstance(found, dict)]
            if objects and all({"apiVersion", "kind", "metadata"} <= set(found) for found in objects):
                for found in objects:
                    if "namespace" in found["metadata"]:
                        found["metadata"]["namespace"] = NAMESPACE
                yield block, objects


def test_manifests_are_accepted_with_every_field(project: Path, kubectl: Kubectl) -> None:
    wrong, seen = [], 0
    for block, objects in manifests(project):
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        answer = kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)
        seen += 1
        if answer.returncode != 0:
            wrong.append(f"{block}: {answer.stderr}")
    assert not wrong, "\n".join(wrong)
    assert seen >= 5


@pytest.fixture
def policy(project: Path, kubectl: Kubectl) -> Iterator[None]:
    """The policy on annotations of docs/security.md, in force."""
    (text,) = (
        yaml.safe_dump_all(objects)
        for block, objects in manifests(project)
        if block.path.name == "security.md"
    )
    applied = kubectl("apply", "-f", "-", stdin=text)
    assert applied.returncode == 0, applied.stderr
    yield
    kubectl("delete", "-f", "-", stdin=text)


def test_the_policy_on_annotations_holds_pods_back(policy: None, kubectl: Kubectl) -> None:
    def said(annotations: dict[str, str], namespace: str = NAMESPACE) -> str:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"generateName": "tried-", "namespace": namespace, "annotations": annotations},
            "spec": {"containers": [{"name": "main", "image": "none"}]},
        }
        return kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod)).stderr

    profile = {"pod.elotl.co/instance-profile": "admin"}
    # The API server takes a moment to know a new policy.
    until(
        lambda: None if "are for the namespace platform" in said(profile) else "no refusal",
        what="the policy",
        seconds=30,
    )
    for key in ("pod.elotl.co/security-groups", "pod.elotl.co/cloud-route"):
        assert "are for the namespace platform" in said({key: "x"}), key
    assert said({"pod.elotl.co/launch-type": "spot"}) == ""
    assert said({}) == ""
    # Nothing but that there is no such namespace is in the way there.
    assert "are for the namespace platform" not in said(profile, namespace="platform")
