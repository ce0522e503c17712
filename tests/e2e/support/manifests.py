"""Manifests in few words: pods for the virtual node, and what stands beside them."""

from __future__ import annotations

from typing import Any

from kip.local.images import TOOLBOX, WEB

Object = dict[str, Any]

NODE = "kip-provider-0"
#: What a pod needs to run on a cell.
ON_CELLS: Object = {
    "nodeSelector": {"type": "virtual-kubelet"},
    "tolerations": [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}],
}
#: What a pod needs to run on the world's ordinary node.
ON_ORDINARY: Object = {"nodeSelector": {"kubernetes.io/hostname": "node-0"}}


def web(name: str = "web", *arguments: str, **more: Any) -> Object:
    """A container of the demonstration server, on port 8080 unless `arguments` say otherwise."""
    return {"name": name, "image": WEB, **({"args": list(arguments)} if arguments else {}), **more}


def shell(script: str, name: str = "main", **more: Any) -> Object:
    """A container that runs the script in busybox's sh and ends with it; it obeys SIGTERM at once."""
    # A shell that is process 1 has no default action for SIGTERM, and `wait` is interrupted by a trap.
    obedient = f"trap 'exit 143' TERM; ({script}) & wait $!"
    return {"name": name, "image": TOOLBOX, "command": ["sh", "-c", obedient], **more}


def pod_spec(*containers: Object, where: Object = ON_CELLS, **more: Any) -> Object:
    """A pod's spec; without containers it has one of the demonstration server."""
    return {
        **where,
        "containers": list(containers) or [web()],
        "terminationGracePeriodSeconds": 5,
        **more,
    }


def pod(
    name: str,
    namespace: str,
    *containers: Object,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> Object:
    """A pod; without containers it has one of the demonstration server. It is labelled app=<name>."""
    metadata: Object = {"name": name, "namespace": namespace, "labels": {"app": name, **(labels or {})}}
    if annotations:
        metadata["annotations"] = annotations
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec(*containers, **spec)}


def service(
    name: str, namespace: str, app: str, *, port: int = 80, target: int = 8080, **spec: Any
) -> Object:
    """A Service in front of the pods labelled app=<app>; `clusterIP="None"` makes it headless."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": app}, "ports": [{"port": port, "targetPort": target}], **spec},
    }


def config_map(name: str, namespace: str, **data: str) -> Object:
    """A ConfigMap."""
    return _data("ConfigMap", name, namespace, {"data": data})


def secret(name: str, namespace: str, **data: str) -> Object:
    """A Secret, its values in clear text."""
    return _data("Secret", name, namespace, {"stringData": data})


def _data(kind: str, name: str, namespace: str, content: Object) -> Object:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, **content}


def deployment(name: str, namespace: str, *containers: Object, replicas: int, **spec: Any) -> Object:
    """A Deployment of pods labelled app=<name>."""
    return _workload("apps/v1", "Deployment", name, namespace, *containers, replicas=replicas, pod=spec)


def stateful_set(name: str, namespace: str, *containers: Object, replicas: int, **spec: Any) -> Object:
    """A StatefulSet of pods labelled app=<name>."""
    return _workload("apps/v1", "StatefulSet", name, namespace, *containers, replicas=replicas, pod=spec)


def daemon_set(name: str, namespace: str, *containers: Object, **spec: Any) -> Object:
    """A DaemonSet of pods labelled app=<name>."""
    return _workload("apps/v1", "DaemonSet", name, namespace, *containers, pod=spec)


def job(name: str, namespace: str, *containers: Object, pod: Object | None = None, **spec: Any) -> Object:
    """A Job of pods labelled app=<name>; its own `spec` apart from that of its `pod`."""
    found = _workload(
        "batch/v1", "Job", name, namespace, *containers, pod={"restartPolicy": "Never", **(pod or {})}, **spec
    )
    del found["spec"]["selector"]
    return found


def _workload(
    version: str, kind: str, name: str, namespace: str, *containers: Object, pod: Object, **spec: Any
) -> Object:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            **spec,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod_spec(*containers, **pod)},
        },
    }
