"""Files that people write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kip.config import ConfigError, Settings, load

# Every key of the first Kip's documentation, with values of our own.
FIRST_KIP = """
---
apiVersion: v1
cloud:
  aws:
    region: eu-west-1
    accessKeyID: AKIAEXAMPLE
    secretAccessKey: "not/a/real+secret"
    vpcID: vpc-0a1b2c
    subnetID: subnet-0a1b2c
    ecsClusterName: old
etcd:
  internal:
    dataDir: /opt/kip/data
    configFile: /opt/kip/etc/etcd.yml
kubelet:
  cpu: "64"
  memory: "512Gi"
  pods: "400"
  labels:
    team: shop
cells:
  nametag: shop
  defaultInstanceType: t3.nano
  defaultVolumeSize: "8Gi"
  bootImageSpec:
    owners: "689494258501"
    filters: "name=elotl-kip-*"
  standbyCells:
    - instanceType: "t2.micro"
      count: 2
      spot: false
  extraCIDRs:
    - 172.16.0.0/12
  extraSecurityGroups:
    - sg-246810
  privateIPOnly: true
  defaultIAMPermissions: arn:aws:iam::123456789012:instance-profile/cells
  itzo:
    version: "532"
    url: http://itzo.example.com
  statusInterval: 5
  healthcheck:
    status:
      healthyTimeout: 90
  useCloudParameterStore: false
  cellConfig:
    imageCacheEndpoint: 10.20.0.2:/data
testing:
  controllerID: abc
"""


def test_a_file_of_the_first_kip(write: Callable[[str], Path]) -> None:
    settings, warnings = load(write(FIRST_KIP), {})
    assert [str(warning) for warning in warnings] == [
        "line 11: cloud.aws.ecsClusterName: ignored; Kip does not use ECS",
        "line 12: etcd: ignored; Kip keeps its state in Cell objects of the cluster and needs neither etcd nor a "
        "volume",
        "line 17: kubelet.cpu: now written kubelet.capacity.cpu",
        "line 18: kubelet.memory: now written kubelet.capacity.memory",
        "line 19: kubelet.pods: now written kubelet.capacity.pods",
        "line 26: cells.bootImageSpec: ignored; the first Kip's images have no kubelet: the newest EKS image is "
        "used instead",
        "line 29: cells.standbyCells: checked, but without effect: this version keeps no standby cells",
        "line 39: cells.itzo: ignored; cells run containerd and kubelet instead of itzo, see cells.bootImageSpec",
        "line 42: cells.statusInterval: ignored; a pod's status comes from its kubelet as it changes",
        "line 43: cells.healthcheck: ignored; machines that do not come up: cells.connectTimeout and cells.startTimeout, "
        "pods whose machine is out of reach: pod.elotl.co/healthcheck-healthy-timeout in cells.defaultAnnotations",
        "line 46: cells.useCloudParameterStore: ignored; user data holds no secret that would have to be kept "
        "elsewhere",
        "line 47: cells.cellConfig: ignored; use cells.cloudInitFile to configure the machine",
        "line 49: testing: ignored; the cluster is named by cluster.name, AWS's address given by "
        "cloud.aws.endpointURL",
    ]
    assert settings.cloud.aws.secret_access_key is not None
    assert settings.cloud.aws.secret_access_key.get_secret_value() == "not/a/real+secret"
    assert settings.cells.default_volume_size == 8 * 2**30
    assert not settings.cells.boot_image_spec.given
    assert settings.kubelet.capacity == {
        "cpu": "64",
        "memory": "512Gi",
        "pods": "400",
        "ephemeral-storage": "400Gi",
    }


@pytest.mark.parametrize("cloud", ["gce", "azure"])
def test_other_clouds_are_not_there(write: Callable[[str], Path], cloud: str) -> None:
    _, warnings = load(write(f"cloud: {{{cloud}: {{zone: x}}}}"), {})
    assert [str(warning) for warning in warnings] == [
        f"line 1: cloud.{cloud}: ignored; cells run on AWS only, see cloud.aws"
    ]


def test_the_new_spelling_of_capacity_counts(write: Callable[[str], Path]) -> None:
    settings, _ = load(write("kubelet: {cpu: 1, capacity: {cpu: 2}}"), {})
    assert settings.kubelet.capacity["cpu"] == "2"


def test_an_empty_file_is_all_defaults(write: Callable[[str], Path]) -> None:
    assert load(write(""), {}) == (Settings(), [])


def test_everything_wrong_is_said_at_once(write: Callable[[str], Path]) -> None:
    path = write(
        """\
        apiVersion: v1
        cloud:
          aws: {accessKeyID: FILL_IN, secretAccessKey: FILL_IN, region: nowhere}
        cells:
          defaultVolumSize: 5Gi
          nametag: a
          nametag: b
          connectTimeout: 5
        nodeIP: 10.0.0.1
        """
    )
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert str(caught.value) == (
        f"{path}: 7 problems\n"
        "  line 3: cloud.aws.accessKeyID: FILL_IN stands for a value: put one there, or leave the key out\n"
        "  line 3: cloud.aws.region: expected a region like us-east-1, not 'nowhere'\n"
        "  line 3: cloud.aws.secretAccessKey: FILL_IN stands for a value: put one there, or leave the key out\n"
        "  line 5: cells.defaultVolumSize: unknown key; did you mean defaultVolumeSize?\n"
        "  line 7: cells.nametag: given twice, first in line 6\n"
        "  line 8: cells.connectTimeout: expected a duration like 90s, 5m or 1h30m, at least 1s, not 5\n"
        "  line 9: nodeIP: unknown key; did you mean kubelet.nodeIP?"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "cells: {privateIpOnly: true}",
            "line 1: cells.privateIpOnly: unknown key; did you mean privateIPOnly?",
        ),
        (
            "standbyCells: []",
            "line 1: standbyCells: unknown key; did you mean cells.standbyCells?",
        ),
        (
            "port: 1",
            "line 1: port: unknown key; did you mean health.port or kubelet.port?",
        ),
        (
            "cells:\n  standbyCells:\n  - instanceType: t3.small\n    number: 1",
            "line 4: cells.standbyCells[0].number: unknown key; known here: instanceType, count, spot, dedicated",
        ),
        (
            "5: x",
            "line 1: 5: unknown key; known here: apiVersion, kind, cloud, cells, kubelet, cluster, registries, health, log",
        ),
    ],
)
def test_unknown_keys(problems: Callable[[str], list[str]], text: str, said: str) -> None:
    assert problems(text) == [said]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a", "line 1: expected a mapping of keys to values"),
        ("just text", "line 1: expected a mapping of keys to values"),
        (
            "a: {b: 1",
            "line 1: is not YAML: while parsing a flow mapping, expected ',' or '}', but got '<stream end>'",
        ),
        (
            "a: 1\n---\nb: 2",
            "line 2: is not YAML: expected a single document in the stream, but found another document",
        ),
        ("cells: &x\n  a: *x", "line 1: is not YAML: a value contains itself"),
        ("a: \x01", "is not text in UTF-8"),
    ],
)
def test_files_that_cannot_be_read_as_yaml(
    problems: Callable[[str], list[str]], text: str, said: str
) -> None:
    assert problems(text) == [said]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "absent.yaml", {})
    assert (
        str(caught.value) == f"{tmp_path}/absent.yaml: 1 problem\n  cannot be read: No such file or directory"
    )


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "provider.yaml"
    path.write_bytes(b"a: \xff\xfe")
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert str(caught.value) == f"{path}: 1 problem\n  is not text in UTF-8"


def test_anchors_and_merge_keys(write: Callable[[str], Path]) -> None:
    text = """
    kubelet:
      labels: &labels {team: shop}
      <<: {port: 10251}
    cells:
      extraCIDRs: []
    """
    settings, _ = load(write(text), {})
    assert settings.kubelet.port == 10251
    assert settings.kubelet.labels == {"team": "shop"}


def test_the_environment_fills_in(write: Callable[[str], Path]) -> None:
    environ = {"AWS_REGION": "eu-west-1", "POD_IP": "10.0.0.4", "POD_NAMESPACE": "kip-system"}
    settings, _ = load(write("kubelet: {port: 10250}"), environ)
    assert settings.cloud.aws.region == "eu-west-1"
    assert settings.kubelet.node_ip == "10.0.0.4"
    assert settings.cluster.namespace == "kip-system"


def test_the_volume_may_be_named_by_the_environment(write: Callable[[str], Path]) -> None:
    environ = {"NFS_VOLUME_ENDPOINT": "fs-1.efs.us-east-1.amazonaws.com:/"}
    assert load(write(""), environ)[0].cells.image_cache.endpoint == environ["NFS_VOLUME_ENDPOINT"]
    assert (
        load(write("cells: {imageCache: {endpoint: 'nas:/a'}}"), environ)[0].cells.image_cache.endpoint
        == "nas:/a"
    )


def test_the_file_counts_more_than_the_environment(write: Callable[[str], Path]) -> None:
    settings, _ = load(write("kubelet: {nodeIP: 10.0.0.5}"), {"NODE_IP": "10.0.0.4"})
    assert settings.kubelet.node_ip == "10.0.0.5"


def test_the_nodes_own_address_counts_more_than_the_pods(write: Callable[[str], Path]) -> None:
    environ = {"NODE_IP": "10.0.0.1", "POD_IP": "10.0.0.2", "VKUBELET_POD_IP": "10.0.0.3"}
    assert load(write(""), environ)[0].kubelet.node_ip == "10.0.0.1"


def test_a_wrong_environment_is_named(write: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(""), {"POD_IP": "unknown"})
    assert [str(problem) for problem in caught.value.problems] == [
        "environment variable POD_IP: kubelet.nodeIP: expected an IP address like 10.0.0.10, not 'unknown'"
    ]


def test_a_wrong_section_is_said_once_even_when_the_environment_has_a_value(
    write: Callable[[str], Path],
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write("cloud: none"), {"AWS_REGION": "eu-west-1"})
    assert [str(problem) for problem in caught.value.problems] == [
        "line 1: cloud: expected a mapping of keys to values, not 'none'"
    ]


def test_the_cloud_init_file_is_found_beside_the_configuration(write: Callable[[str], Path]) -> None:
    path = write("cells: {cloudInitFile: extra.yaml}")
    (path.parent / "extra.yaml").write_text("#cloud-config\n")
    assert load(path, {})[0].cells.cloud_init_file == path.parent / "extra.yaml"


def test_so_is_instance_data(write: Callable[[str], Path]) -> None:
    path = write("cells: {instanceData: prices.yaml, instanceTypes: {allowed: m7i c7*, excluded: [t2]}}")
    (path.parent / "prices.yaml").write_text("{}")
    cells = load(path, {})[0].cells
    assert cells.instance_data == path.parent / "prices.yaml"
    assert (cells.instance_types.allowed, cells.instance_types.excluded) == (("m7i", "c7*"), ("t2",))


def test_the_secret_never_shows(write: Callable[[str], Path]) -> None:
    settings, _ = load(write("cloud: {aws: {accessKeyID: AKIA, secretAccessKey: s3cr3t}}"), {})
    assert "s3cr3t" not in repr(settings)
    with pytest.raises(ConfigError) as caught:
        load(write("cloud: {aws: {accessKeyID: AKIA, secretAccessKey: 's3cr3t with spaces'}}"), {})
    assert "s3cr3t" not in str(caught.value)


def test_an_image_of_ones_own_for_pods_with_gpus_is_remarked_on(write: Callable[[str], Path]) -> None:
    image = "cells: {bootImageSpec: {imageIDs: [ami-1]}}\n"
    _, [warning] = load(write(image + "kubelet: {capacity: {nvidia.com/gpu: 8}}\n"), {})
    assert str(warning).startswith("line 1: cells.bootImageSpec: used for machines with GPUs too")
    assert load(write(image), {})[1] == []
