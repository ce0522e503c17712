"""The Helm chart, as it is written and as it comes out."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kip import config
from kip.config import Settings

GIVEN = {"clusterName": "shop", "region": "us-west-2"}

Helm = Callable[..., subprocess.CompletedProcess[str]]


def test_what_config_may_change_is_read_from_the_merged_configuration(project: Path) -> None:
    """`config` is merged over the values: a template that reads a value itself would contradict provider.yaml."""
    templates = project / "charts" / "kip" / "templates"
    of_config = set(re.findall(r"\.Values\.([\w.]+)", (templates / "_config.tpl").read_text())) - {"config"}
    assert {"nodes", "rbac.impersonateNode", "clusterSecurityGroup", "subnetIDs"} <= of_config
    for template in templates.iterdir():
        if template.name != "_config.tpl":
            read = set(re.findall(r"\.Values\.([\w.]+)", template.read_text()))
            assert not read & of_config, template.name


def test_every_value_is_used(project: Path) -> None:
    chart = project / "charts" / "kip"
    text = "".join(template.read_text() for template in (chart / "templates").iterdir())
    for name in yaml.safe_load((chart / "values.yaml").read_text()):
        assert f".Values.{name}" in text, name


@pytest.fixture
def helm(project: Path, helm_program: Path) -> Helm:
    def run(**values: Any) -> subprocess.CompletedProcess[str]:
        given = [f"--set-json={key}={json.dumps(value)}" for key, value in {**GIVEN, **values}.items()]
        return subprocess.run(
            [helm_program, "template", "kip", project / "charts" / "kip", *given],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


@pytest.fixture
def render(helm: Helm) -> Callable[..., dict[tuple[str, str], Any]]:
    """The objects by kind and namespace."""

    def made(**values: Any) -> dict[tuple[str, str], Any]:
        done = helm(**values)
        assert done.returncode == 0, done.stderr
        objects = [document for document in yaml.safe_load_all(done.stdout) if document]
        return {(o["kind"], o["metadata"].get("namespace", "")): o for o in objects}

    return made


@pytest.fixture
def provider(render: Callable[..., dict[tuple[str, str], Any]], tmp_path: Path) -> Callable[..., Settings]:
    def made(**values: Any) -> Settings:
        [found] = [o for (kind, _), o in render(**values).items() if kind == "ConfigMap"]
        file = tmp_path / "provider.yaml"
        file.write_text(found["data"]["provider.yaml"])
        settings, warnings = config.load(file, {})
        assert not warnings
        return settings

    return made


def test_what_is_required_is_enough(provider) -> None:
    settings = provider()
    assert settings.cluster.name == "shop"
    assert settings.cloud.aws.subnet_ids == ()
    assert settings.cloud.aws.vpc_id is None
    assert settings.cells.extra_security_groups == ()


def test_where_cells_go_and_what_they_join(provider) -> None:
    settings = provider(
        subnetIDs=["subnet-1", "subnet-2"],
        vpcID="vpc-1",
        clusterSecurityGroup="sg-1",
        config={"cells": {"extraSecurityGroups": ["sg-2"]}},
    )
    assert settings.cloud.aws.subnet_ids == ("subnet-1", "subnet-2")
    assert settings.cloud.aws.vpc_id == "vpc-1"
    assert settings.cells.extra_security_groups == ("sg-1", "sg-2")


@pytest.mark.parametrize("values", [{"nodes": 3}, {"config": {"kubelet": {"nodes": 3}}}])
def test_there_is_a_process_for_each_node_however_many_are_asked_for(render, values) -> None:
    [deployment] = [o for (kind, _), o in render(**values).items() if kind == "Deployment"]
    assert deployment["spec"]["replicas"] == 4


@pytest.mark.parametrize("values", [{"nodes": 5}, {"config": {"kubelet": {"nodes": 5}}}])
def test_more_nodes_than_there_are_permissions_for_are_refused(helm, values) -> None:
    refused = helm(**values)
    assert refused.returncode != 0
    assert "nodes: 5 are too many; at most 4" in refused.stderr


def test_a_name_without_a_number_is_refused(helm) -> None:
    refused = helm(config={"kubelet": {"nodeName": "burst"}})
    assert refused.returncode != 0
    assert "set config.kubelet.nodeNamePrefix instead" in refused.stderr


def test_permissions_follow_the_nodes_names(render) -> None:
    objects = render(config={"kubelet": {"nodeNamePrefix": "burst"}})
    names = {
        name
        for (kind, _), o in objects.items()
        if kind in ("ClusterRole", "Role")
        for rule in o["rules"]
        for name in rule.get("resourceNames", ())
        if re.search(r"-\d$", name)
    }
    assert names == {f"{who}burst-{number}" for who in ("", "system:node:") for number in range(4)}


@pytest.mark.parametrize(
    "values", [{"rbac": {"impersonateNode": False}}, {"config": {"cluster": {"impersonateNode": False}}}]
)
def test_without_impersonation_kip_gets_the_rights_that_it_needs_then(helm, provider, values) -> None:
    assert provider(**values).cluster.impersonate_node is False
    assert "kip-provider-without-impersonation" in helm(**values).stdout
    assert "kip-provider-without-impersonation" not in helm().stdout
