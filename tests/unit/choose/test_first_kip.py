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


WARNINGS = [
    "line 11: cloud.aws.ecsClusterName: ignored; Kip does not use ECS",
    "line 14: etcd: ignored; Kip keeps its state in Cell objects of the cluster and needs neither etcd nor a volume",
    "line 27: cells.bootImageSpec: ignored; the first Kip's images have no kubelet: the newest EKS image is used instead",
    "line 31: cells.standbyCells: checked, but without effect: this version keeps no standby cells",
    "line 39: cells.itzo: ignored; cells run containerd and kubelet instead of itzo, see cells.bootImageSpec",
    "line 47: cells.statusInterval: ignored; a pod's status comes from its kubelet as it changes",
    "line 48: cells.healthcheck: ignored; machines that do not come up: cells.connectTimeout and cells.startTimeout, pods "
    "whose machine is out of reach: pod.elotl.co/healthcheck-healthy-timeout in cells.defaultAnnotations",
    "line 53: cells.useCloudParameterStore: ignored; user data holds no secret that would have to be kept elsewhere",
    "line 54: cells.cellConfig: ignored; use cells.cloudInitFile to configure the machine",
    "line 64: testing: ignored; the cluster is named by cluster.name, AWS's address given by cloud.aws.endpointURL",
]
WARNINGS_OF_THE_OTHER = [
    "line 9: cloud.gce: ignored; cells run on AWS only, see cloud.aws",
    "line 16: cloud.azure: ignored; cells run on AWS only, see cloud.aws",
    "line 23: cells.healthcheck: ignored; machines that do not come up: cells.connectTimeout and cells.startTimeout, pods "
    "whose machine is out of reach: pod.elotl.co/healthcheck-healthy-timeout in cells.defaultAnnotations",
    "line 28: kubelet.cpu: now written kubelet.capacity.cpu",
    "line 29: kubelet.memory: now written kubelet.capacity.memory",
    "line 30: kubelet.pods: now written kubelet.capacity.pods",
]


def test_its_configuration_is_taken_and_each_key_without_effect_names_what_replaces_it(data: Path) -> None:
    settings, warnings = config.load(data / "provider.yaml", {})
    assert [str(warning) for warning in warnings] == WARNINGS
    aws, cells = settings.cloud.aws, settings.cells
    assert (aws.region, aws.vpc_id, aws.subnet_ids) == ("us-east-1", "vpc-0123abcd", ("subnet-0123abcd",))
    assert str(aws.endpoint_url) == "https://ec2.us-east-1.amazonaws.com"
    assert (cells.default_instance_type, cells.default_volume_size) == ("t3.nano", 10 * 2**30)
    assert [(cell.instance_type, cell.count) for cell in cells.standby_cells] == [
        ("c5.large", 4),
        ("m5.large", 1),
    ]
    assert cells.cloud_init_file == data / "cloud-init.yaml"
    assert (cells.extra_cidrs, cells.extra_security_groups) == (("172.20.0.0/16",), ("sg-0123abcd",))
    assert (cells.nametag, cells.private_ip_only) == ("shop", True)
    assert cells.default_iam_permissions == "arn:aws:iam::123456789012:instance-profile/kip-cell"
    assert settings.kubelet.capacity == {
        "cpu": "100",
        "memory": "512Gi",
        "pods": "200",
        "ephemeral-storage": "400Gi",
        "nvidia.com/gpu": "8",
    }
    assert settings.kubelet.labels == {"team": "shop"}


def test_its_other_spellings(data: Path) -> None:
    settings, warnings = config.load(data / "provider-other.yaml", {})
    assert [str(warning) for warning in warnings] == WARNINGS_OF_THE_OTHER
    assert (settings.cloud.aws.region, settings.cloud.aws.vpc_id) == ("us-gov-west-1", "default")
    assert settings.cloud.aws.subnet_ids == ()
    assert settings.cells.boot_image_spec.image_ids == ("ami-0123abcd", "ami-4567cdef")
    assert {key: settings.kubelet.capacity[key] for key in ("cpu", "memory", "pods")} == {
        "cpu": "100",
        "memory": "512Gi",
        "pods": "200",
    }


def test_a_check_shows_what_of_it_will_be_used(data: Path) -> None:
    result = CliRunner().invoke(cli.main, ["config", "check", str(data / "provider.yaml")])
    assert result.exit_code == 0, result.output
    shown = {" ".join(line.split()).partition(" #")[0] for line in result.output.splitlines()}
    assert {
        "cloud.aws.secretAccessKey: (secret)",
        "cloud.aws.subnetTags: {}",
        "cells.defaultAnnotations: {}",
        "cells.extraSecurityGroups: [sg-0123abcd]",
        "cells.nametag: shop",
    } <= shown
