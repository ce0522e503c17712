"""What the virtual node's Node object says. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from kip.model import quantity
from kip.model.clock import to_rfc3339
from kip.model.names import ANNOTATION_LABELS, TAINT_KEY, TAINT_VALUE, provider_id

_AMOUNTS = ("capacity", "allocatable")


@dataclass(frozen=True)
class NodeOptions:
    """What is configured about the virtual node."""

    name: str
    cluster: str
    address: str
    """InternalIP: where the API server reaches the node's kubelet API."""
    kubelet_port: int
    capacity: Mapping[str, str]
    """What the scheduler may fill. The status has these resources and no others: what anybody adds is taken away."""
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
    ours = labels(options)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": options.name,
            "labels": ours,
            "annotations": {ANNOTATION_LABELS: ",".join(sorted(ours))},
        },
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


def difference(node: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """A strategic merge patch that makes the Node what `new_node` wants; empty if it is. What others added stays."""
    patch: dict[str, Any] = {}
    if metadata := _metadata_difference(node["metadata"], wanted["metadata"]):
        patch["metadata"] = metadata
    taint = wanted["spec"]["taints"][0]
    taints = node.get("spec", {}).get("taints") or []
    if not any(t["key"] == taint["key"] and t["effect"] == taint["effect"] for t in taints):
        patch["spec"] = {"taints": [*taints, taint]}
    if not node.get("spec", {}).get("providerID"):
        patch.setdefault("spec", {})["providerID"] = wanted["spec"]["providerID"]
    return patch


def _metadata_difference(have: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    patch = {}
    for kind in ("labels", "annotations"):
        known = have.get(kind) or {}
        if changed := {k: v for k, v in wanted[kind].items() if known.get(k) != v}:
            patch[kind] = changed
    # A label that is configured no more would stay for ever. Which of them were ours, only the Node itself can tell:
    # whoever set them may have been a process before this one.
    once_ours = (have.get("annotations") or {}).get(ANNOTATION_LABELS, "").split(",")
    gone = {k: None for k in once_ours if k in (have.get("labels") or {}) and k not in wanted["labels"]}
    if gone:
        patch["labels"] = {**patch.get("labels", {}), **gone}
    return patch


def status_patch(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """A strategic merge patch that makes `before` the wanted status. A merge alone would only ever add."""
    amounts = {
        kind: {**dict.fromkeys(before.get(kind) or {}), **wanted[kind]}  # null takes a resource away
        for kind in _AMOUNTS
    }
    # Addresses merge by type: a replaced one would leave the old one behind.
    return {**wanted, **amounts, "addresses": [{"$patch": "replace"}, *wanted["addresses"]]}


def same_but_heartbeat(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Does the status already say what is wanted, heartbeat times left aside?"""
    conditions = {c["type"]: c for c in before.get("conditions") or ()}
    info = before.get("nodeInfo") or {}
    return (
        all(before.get(part) == wanted[part] for part in ("addresses", "daemonEndpoints"))
        and all(_amounts(before.get(kind)) == _amounts(wanted[kind]) for kind in _AMOUNTS)
        # The API server leaves out what is empty.
        and all(info.get(key, "") == value for key, value in wanted["nodeInfo"].items())
        # Conditions of other types are somebody else's.
        and all(_lasting(conditions.get(c["type"], {})) == _lasting(c) for c in wanted["conditions"])
    )


def _amounts(resources: Mapping[str, str] | None) -> dict[str, Decimal]:
    """As numbers: the API server writes quantities its own way, `1024Mi` as `1Gi`."""
    return {resource: quantity.parse(amount) for resource, amount in (resources or {}).items()}


def _lasting(condition: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in condition.items() if key != "lastHeartbeatTime"}


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
