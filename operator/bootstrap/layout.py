"""Where things are on a cell: ports and paths that user data sets and the operator's commands rely on."""

from __future__ import annotations

SSH_PORT = 22
API_PORT = 6443
"""sshd's remote forward listens here on the cell's loopback: behind it is the operator's cell API."""
HELD_API_PORT = 6444
"""Where the kubelet asks: a socket that holds requests until something listens on `API_PORT`."""
KUBELET_PORT = 10250

DIRECTORY = "/etc/kip"
OPTIONS = f"{DIRECTORY}/options"
TOKEN = f"{DIRECTORY}/token"
"""Bearer token that the cell made for itself: what its kubelet shows to the cell API."""
KUBECONFIG_TEMPLATE = f"{DIRECTORY}/kubeconfig.in"
KUBELET_CONFIG = f"{DIRECTORY}/kubelet.json"
OPERATOR_CA = f"{DIRECTORY}/operator-ca.crt"
AUTHORIZED_KEYS = f"{DIRECTORY}/authorized_keys"
HOST_KEY = f"{DIRECTORY}/ssh_host_ed25519_key"
NEXT_HOST_KEY = f"{HOST_KEY}.next"
"""The cell's own host key until it is activated, that is moved to `HOST_KEY`."""
OWN_HOST_KEY_PUBLIC = f"{DIRECTORY}/own_host_key.pub"
"""Public half of the cell's own host key, before and after its activation."""

PROGRAMS = "/opt/kip"
CNI_PLUGIN = "/opt/cni/bin/kip"
POD_INTERFACE = "kip0"
"""The cell's end of the pod's veth: there is one pod with an address of its own, so one name."""

VOLUME = "/run/kip/volume"
"""Where the image cache's volume is mounted."""
VOLUME_OPTIONS = f"{DIRECTORY}/volume"
LAYERS = "/var/lib/kip/layers"
"""A script that mounts what the operator has mounted of the volume: a machine that boots again has the snapshots, on its
disk, and no longer what was mounted on them."""

CREDENTIAL_PROVIDER_CONFIG = f"{DIRECTORY}/image-credential-provider.json"

STATIC_PODS = "/etc/kubernetes/manifests"
"""Where the kubelet looks for pods of the machine's own; the path that kubeadm and the EKS images know."""
DEVICE_PLUGIN = "kip-device-plugin"
DEVICE_PLUGIN_NAMESPACE = "kube-system"


def static_pod_name(name: str, node_name: str) -> str:
    """What a kubelet calls the static pod whose manifest has this name."""
    return f"{name}-{node_name}"
