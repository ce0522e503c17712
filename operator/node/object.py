"""What the virtual node's Node object says. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kip.model.clock import to_rfc3339
from kip.model.names import TAINT_KEY, TAINT_VALUE, provider_id


@dataclass(frozen=True)
class NodeOptions:
    """What is configured about the virtual node."""

    name: str
    cluster: str
    address: str
    """InternalIP: where the API server reaches the node's kubelet API."""
    kubelet_port: int
    capacity: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)
    kubelet_version: str = "v1.36.0"
    """Shown in kubectl's VERSION column; the cluster's own version, because the cells' kubelets follow it."""


@dataclass(frozen=True)
class Health:
    """Whether new pods can be served, and why not."""

    ready: bool
    reason: str
    message: str


HEALTHY = Health(ready=True, reason="KipReady", message="pods get an EC2 instance each")


def labels(options: NodeOptions) -> dict[str, str]:
    """The labels Kip is responsible for; a configured one with the same key wins."""
    return {
        "type": "virtual-kubelet",
        "kubernetes.io/hostname": options.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/role": "agent",
        # Cells are reached by pod IP; the node itself serves no NodePort for a load balancer to target.
        "node.kubernetes.io/exclude-from-external-load-balancers": "true",
        **options.labels,
    }


def new_node(options: NodeOptions) -> dict[str, Any]:
    """The Node to create; its status is written separately.

    The providerID keeps cloud controllers away: with none, the AWS one looks the node up by name and, from Kubernetes 1.37
    on, deletes it when it is NotReady and not found. A scheme that is not its own it leaves alone.
    """
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": options.name, "labels": labels(options)},
        "spec": {
            "providerID": provider_id(options.cluster, options.name),
            "taints": [{"key": TAINT_KEY, "value": TAINT_VALUE, "effect": "NoSchedule"}],
        },
    }


def status(
    options: NodeOptions, health: Health, *, now: datetime, before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The whole status. `before` is the last one: a condition that did not change keeps its transition time."""
    known = {c["type"]: c for c in (before or {}).get("conditions") or ()}
    ready = ("Ready", "True" if health.ready else "False", health.reason, health.message)
    quiet = [
        (kind, "False", reason, message)
        for kind, reason, message in (
            ("MemoryPressure", "EachPodHasItsOwnMachine", "memory belongs to the cells"),
            ("DiskPressure", "EachPodHasItsOwnMachine", "disks belong to the cells"),
            ("PIDPressure", "EachPodHasItsOwnMachine", "processes belong to the cells"),
            ("NetworkUnavailable", "CellsHaveVPCAddresses", "pods have addresses of the VPC"),
        )
    ]
    return {
        "capacity": dict(options.capacity),
        "allocatable": dict(options.capacity),
        "addresses": [{"type": "InternalIP", "address": options.address}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": options.kubelet_port}},
        "conditions": [_condition(known, *condition, now=now) for condition in (*quiet, ready)],
        "nodeInfo": {
            "architecture": "amd64",
            "operatingSystem": "linux",
            "kubeletVersion": options.kubelet_version,
            "kubeProxyVersion": "",
            "containerRuntimeVersion": "containerd://cells",
            "osImage": "Kip: an EC2 instance for each pod",
            "kernelVersion": "",
            "machineID": "",
            "systemUUID": "",
            "bootID": "",
        },
    }


def same_but_heartbeat(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Do the two statuses differ in nothing but heartbeat times?"""
    return _without_heartbeat(one) == _without_heartbeat(other)


def _without_heartbeat(status: Mapping[str, Any]) -> dict[str, Any]:
    conditions = [
        {k: v for k, v in c.items() if k != "lastHeartbeatTime"} for c in status.get("conditions") or ()
    ]
    keys = ("capacity", "allocatable", "addresses", "daemonEndpoints", "nodeInfo")
    info = {k: v for k, v in (status.get("nodeInfo") or {}).items() if v}
    return {
        **{k: status.get(k) for k in keys},
        "nodeInfo": info,
        "conditions": sorted(conditions, key=lambda c: c["type"]),
    }


def _condition(
    known: Mapping[str, Mapping[str, Any]], kind: str, value: str, reason: str, message: str, *, now: datetime
) -> dict[str, Any]:
    before = known.get(kind)
    moment = to_rfc3339(now)
    since = before["lastTransitionTime"] if before and before.get("status") == value else moment
    return {
        "type": kind,
        "status": value,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": moment,
        "lastTransitionTime": since,
    }
