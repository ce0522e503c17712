"""Which files become objects, and when a type is served."""

from pathlib import Path

import pytest

from kip.local.cluster import read_manifests, unestablished
from kip.local.world import WorldError


def test_types_and_permissions_are_read_and_nothing_else(tmp_path: Path) -> None:
    crds, deploy = tmp_path / "crds", tmp_path / "base"
    crds.mkdir(), deploy.mkdir()
    manifest = "apiVersion: v1\nkind: {0}\nmetadata: {{name: {0}}}\n"
    (crds / "cells.yaml").write_text(manifest.format("A") + "---\n" + manifest.format("B"))
    (crds / "kustomization.yaml").write_text("resources: [cells.yaml]\n")
    (deploy / "rbac.yaml").write_text("---\n" + manifest.format("C"))
    (deploy / "deployment.yaml").write_text(manifest.format("D"))
    assert [found["kind"] for found in read_manifests([crds, deploy, tmp_path / "none"])] == ["A", "B", "C"]


@pytest.mark.parametrize(
    ("text", "told"), [("a: [", "is not YAML"), ("- 1\n", "expected Kubernetes objects")]
)
def test_a_file_that_is_no_manifest_is_told_with_its_path(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(WorldError, match=told) as caught:
        list(read_manifests([tmp_path]))
    assert "x.yaml" in str(caught.value)


def condition(kind: str, status: str, message: str = "") -> dict[str, object]:
    return {"status": {"conditions": [{"type": kind, "status": status, "message": message}]}}


def test_a_type_is_served_once_it_is_established() -> None:
    assert unestablished(condition("Established", "True")) is None
    assert unestablished(condition("Established", "False", "waiting")) == "waiting"
    assert unestablished(condition("NamesAccepted", "False", "name is taken")) == "name is taken"
    assert unestablished({}) == "not established yet"
    assert unestablished(None) == "not there"
