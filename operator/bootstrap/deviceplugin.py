"""NVIDIA's device plugin as a pod of the machine itself: the kubelet runs it, and the cluster never sees it.

The kubelet asks the cell API for a mirror pod, which is swallowed (kip.cellapi.rules); the plugin talks to nobody but
the kubelet, by a socket. What it is given is what NVIDIA's own manifest gives it (k8s-device-plugin v0.20.0,
deployments/static/nvidia-device-plugin.yml): with the container toolkit's runtime as the default one it needs no
privileges to see the GPUs.
"""

from __future__ import annotations

import json

from kip.bootstrap.layout import DEVICE_PLUGIN, DEVICE_PLUGIN_NAMESPACE

_SOCKETS = "/var/lib/kubelet/device-plugins"
# system-node-critical: the last to be evicted. A kubelet resolves no names of priority classes, so both are given.
_PRIORITY = 2_000_001_000


def manifest(image: str) -> str:
    """The static pod, as JSON.

    On the machine's own network: the one address for pods is the pod's. An image that the machine image brought along
    is used as it is.
    """
    container = {
        "name": "plugin",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "sockets", "mountPath": _SOCKETS}],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": DEVICE_PLUGIN, "namespace": DEVICE_PLUGIN_NAMESPACE},
        "spec": {
            "hostNetwork": True,
            "priorityClassName": "system-node-critical",
            "priority": _PRIORITY,
            "containers": [container],
            "volumes": [
                {"name": "sockets", "hostPath": {"path": _SOCKETS, "type": "DirectoryOrCreate"}},
            ],
        },
    }
    return json.dumps(pod, indent=1) + "\n"
