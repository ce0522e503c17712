"""The user data that makes a machine of the room an ordinary node: containerd, kubelet, kube-proxy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

PROXY_PROGRAM = "/opt/bin/kube-proxy"  # brought by whoever boots the machine: an AMI has none

_BRIDGE = "cni0"
_DIRECTORY = "/etc/kubernetes"
_PLUGINS = "/usr/lib/cni"  # Debian's containernetworking-plugins

_CONTAINERD = f"""\
version = 3

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "localhost/kubernetes/pause:latest"

[plugins.'io.containerd.cri.v1.images'.registry]
config_path = "/etc/containerd/certs.d"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dir = "{_PLUGINS}"
conf_dir = "/etc/cni/net.d"
use_internal_loopback = true
"""

_PROXY_UNIT = f"""\
[Unit]
Description=Kubernetes kube-proxy
[Service]
ExecStartPre=/bin/sh -c 'until [ -x {PROXY_PROGRAM} ]; do sleep 0.1; done'
ExecStart={PROXY_PROGRAM} --config={_DIRECTORY}/kube-proxy.json
TimeoutStartSec=infinity
Restart=always
RestartSec=1
"""


@dataclass(frozen=True)
class Node:
    """What a node is told: its name, its pods' addresses, the cluster's, and how it shows who it is."""

    name: str
    pods: IPv4Network
    cluster_dns: IPv4Address
    authority: str
    """PEM of the cluster's authority."""
    kubelet_kubeconfig: str
    proxy_kubeconfig: str


def cloud_config(node: Node) -> bytes:
    """User data in cloud-init's own form; YAML includes JSON."""
    files = {
        "/etc/containerd/config.toml": _CONTAINERD,
        "/etc/cni/net.d/10-node.conflist": _json(_network(node.pods)),
        "/etc/eks/kubelet/environment": _kubelet_arguments(node.name),
        f"{_DIRECTORY}/ca.crt": node.authority,
        f"{_DIRECTORY}/kubelet.json": _json(_kubelet(node.cluster_dns)),
        f"{_DIRECTORY}/kubelet.kubeconfig": node.kubelet_kubeconfig,
        f"{_DIRECTORY}/kube-proxy.json": _json(_proxy(node.name)),
        f"{_DIRECTORY}/kube-proxy.kubeconfig": node.proxy_kubeconfig,
        "/etc/systemd/system/kube-proxy.service": _PROXY_UNIT,
    }
    content = {
        "write_files": [
            {"path": path, "content": text, "permissions": "0600"} for path, text in files.items()
        ],
        "runcmd": [
            "sysctl --quiet --write net.ipv4.ip_forward=1 net.ipv4.conf.eth0.proxy_arp=1",
            "systemctl daemon-reload",
            "systemctl start --no-block containerd kubelet kube-proxy",
        ],
    }
    return f"#cloud-config\n{_json(content)}".encode()


def _kubelet_arguments(name: str) -> str:
    arguments = (
        f"--hostname-override={name} --config={_DIRECTORY}/kubelet.json "
        f"--kubeconfig={_DIRECTORY}/kubelet.kubeconfig"
    )
    return f"NODEADM_KUBELET_ARGS={arguments}\n"


def _network(pods: IPv4Network) -> dict[str, object]:
    """Pods behind a bridge, with addresses of the VPC: the machine answers for them there (proxy ARP)."""
    bridge = {
        "type": "bridge",
        "bridge": _BRIDGE,
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": str(pods)}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return {
        "cniVersion": "1.0.0",
        "name": "node",
        "plugins": [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}],
    }


def _kubelet(cluster_dns: IPv4Address) -> dict[str, object]:
    """As on a real node; its serving certificate is asked for, and approved by who boots it."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{_DIRECTORY}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "systemd",
        "clusterDNS": [str(cluster_dns)],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        # The host's disk is shared with everything else on it: its filling up is not this node's concern.
        "evictionHard": {"memory.available": "100Mi"},
        "serverTLSBootstrap": True,
    }


def _proxy(name: str) -> dict[str, object]:
    """Zeros leave the conntrack limits alone: they are the host's."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": name,
        "clientConnection": {"kubeconfig": f"{_DIRECTORY}/kube-proxy.kubeconfig"},
        "detectLocalMode": "BridgeInterface",
        "detectLocal": {"bridgeInterface": _BRIDGE},
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
            "udpTimeout": "0s",
            "udpStreamTimeout": "0s",
        },
    }


def _json(content: object) -> str:
    return json.dumps(content, indent=1) + "\n"
