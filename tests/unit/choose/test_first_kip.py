"""The first Kip's manifests and its provider.yaml go on working; tests/data/first_kip was written anew from what it did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from kip import cli, config
from kip.choose.manifests import Workload, read
from kip.pods import eligibility
from kip.pods.requirements import requirements


@pytest.fixture
def data(project: Path) -> Path:
    return project / "tests" / "data" / "first_kip"


def test_every_manifest_gets_a_machine(data: Path) -> None:
    command = ["choose", "-f", str(data / "pods.yaml"), "--config", str(data / "provider.yaml"), "-o", "json"]
    result = CliRunner().invoke(cli.main, command)
    assert result.exit_code == 0, result.output
    found = {entry["name"]: entry for entry in json.loads(result.stdout)["workloads"]}
    chosen = {name: entry["ranking"][0]["instanceType"] for name, entry in found.items()}
    assert chosen["nginx"].startswith("c5")
    assert chosen["exact"] == "t3.small"
    assert chosen["nothing-said"] == "t3.nano"
    assert found["batch"]["ranking"][0]["launchType"] == "spot"
    assert (found["batch"]["volumeGiB"], found["gateway"]["volumeGiB"]) == (50, 20)
    assert found["gateway"]["ranking"][0]["vcpus"] >= 4
    assert chosen["gpu"] == "g4dn.xlarge"
    assert chosen["gpu-as-on-gke"] == "g4dn.12xlarge"


def test_annotations_mean_what_they_meant(data: Path) -> None:
    pods = {
        found.name: found.pod
        for found in read((data / "pods.yaml").read_text())
        if isinstance(found, Workload)
    }
    gateway = requirements(pods["gateway"])
    assert gateway.private_ip_only is True
    assert gateway.security_groups == ("sg-0123abcd", "sg-4567cdef")
    assert gateway.instance_profile == "arn:aws:iam::123456789012:instance-profile/gateway"
    for pod in pods.values():
        bound = {**pod, "spec": {**pod["spec"], "nodeName": "n"}}
        assert eligibility.judge(bound, nodes=("n",)).action == "serve"


def test_its_configuration_is_taken_with_warnings_that_name_what_replaces_a_key(data: Path) -> None:
    settings, warnings = config.load(data / "provider.yaml", {})
    assert settings.cells.default_instance_type == "t3.nano"
    assert settings.kubelet.capacity["cpu"] == "100"
    warned = {str(warning).split(": ")[1] for warning in warnings}
    assert warned >= {
        "cloud.aws.ecsClusterName",
        "etcd",
        "cells.bootImageSpec",
        "cells.itzo",
        "cells.healthcheck",
        "cells.cellConfig",
        "kubelet.cpu",
        "testing",
    }
