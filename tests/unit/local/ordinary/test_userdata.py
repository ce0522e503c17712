"""What an ordinary node's user data brings."""

import json
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
import yaml

from kip.cloud.base import MAX_USER_DATA
from kip.local.ordinary.userdata import Node, cloud_config

NODE = Node(
    name="node-0",
    pods=IPv4Network("10.78.0.224/27"),
    cluster_dns=IPv4Address("10.96.0.10"),
    authority="-----BEGIN CERTIFICATE-----\n" + "a" * 800,
    kubelet_kubeconfig="k" * 3000,
    proxy_kubeconfig="p" * 3000,
)


@pytest.fixture
def files() -> dict[str, str]:
    content: dict[str, Any] = yaml.safe_load(cloud_config(NODE))
    return {file["path"]: file["content"] for file in content["write_files"]}


def test_it_is_cloud_config_and_small_enough() -> None:
    assert cloud_config(NODE).startswith(b"#cloud-config\n")
    assert len(cloud_config(NODE)) < MAX_USER_DATA


def test_secrets_are_for_root_alone() -> None:
    content = yaml.safe_load(cloud_config(NODE))
    assert {file["permissions"] for file in content["write_files"]} == {"0600"}


def test_nothing_in_it_waits_for_the_kubelet() -> None:
    content = yaml.safe_load(cloud_config(NODE))
    starts = [command for command in content["runcmd"] if "systemctl start" in command]
    assert starts
    assert all("--no-block" in command for command in starts)


def test_pods_have_addresses_of_the_vpc_and_keep_them_on_the_way(files: dict[str, str]) -> None:
    bridge, _ = json.loads(files["/etc/cni/net.d/10-node.conflist"])["plugins"]
    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.78.0.224/27"}]]
    assert bridge["ipMasq"] is False


def test_the_kubelet_authenticates_and_authorises_as_a_real_one(files: dict[str, str]) -> None:
    kubelet = json.loads(files["/etc/kubernetes/kubelet.json"])
    assert kubelet["authentication"]["anonymous"]["enabled"] is False
    assert kubelet["authorization"]["mode"] == "Webhook"
    assert kubelet["serverTLSBootstrap"] is True
    assert kubelet["authentication"]["x509"]["clientCAFile"] in files


def test_the_hosts_conntrack_limits_are_left_alone(files: dict[str, str]) -> None:
    conntrack = json.loads(files["/etc/kubernetes/kube-proxy.json"])["conntrack"]
    assert set(conntrack.values()) == {0, "0s"}


def test_kubelet_and_kube_proxy_agree_on_the_name(files: dict[str, str]) -> None:
    assert "--hostname-override=node-0 " in files["/etc/eks/kubelet/environment"]
    assert json.loads(files["/etc/kubernetes/kube-proxy.json"])["hostnameOverride"] == "node-0"
