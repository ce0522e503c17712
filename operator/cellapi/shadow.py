"""The Node that one cell's kubelet is shown: the virtual node's name, the cell's own machine, the labels of both.

A kubelet admits pods by the Node it is served, and never again if it once refused (`Failed/OutOfpods`): so its
status patches are really merged, and what its pod needs is there from the first answer on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from kip.cellapi.identity import CellIdentity
from kip.cellapi.labels import node_labels
from kip.cellapi.merge import strategic_merge
from kip.cellapi.problem import invalid, too_large
from kip.cellapi.versions import ResourceVersions, Signal
from kip.model.quantity import QuantityError, format_millis, millis, parse
from kip.pods.tree import dig, entries, items

Object = dict[str, Any]

# Where a kubelet listens; it writes the same itself with its first status.
_KUBELET_PORT = 10250
# KubeletConfiguration.maxPods as every kubelet has it by default; the kubelet's own number replaces it.
_MAX_PODS = "110"
_ADMITTED_BY = ("cpu", "memory", "ephemeral-storage", "pods")


class ShadowNode:
    """One cell's Node: seeded once, then only its kubelet changes it."""

    def __init__(
        self,
        identity: CellIdentity,
        real: Mapping[str, Any],
        versions: ResourceVersions,
        *,
        changed: Signal,
        max_bytes: int,
    ) -> None:
        """`real` is the virtual node as the cluster has it. What a pod was admitted with must not go away under it,
        so later changes to the virtual node's labels do not reach this one. `changed` is fired with every change."""
        self._identity = identity
        self._virtual_labels = dict(entries(real, "metadata", "labels"))
        self._versions = versions
        self._max_bytes = max_bytes
        self._needs: Mapping[str, Decimal] = {}
        self.changed = changed
        self._store(_seed(identity, real))

    @property
    def uid(self) -> str:
        """The virtual node's: owner references that the kubelet writes must agree with it."""
        return self._uid

    @property
    def resource_version(self) -> str:
        return self._resource_version

    @property
    def encoded(self) -> bytes:
        """The object as JSON. Kept in this form because it is read far more often than changed."""
        return self._encoded

    def allocatable(self, resource: str) -> Decimal:
        """How much of it the Node offers to pods. Of devices (`nvidia.com/gpu`), what the kubelet has reported, because
        neither the instance's capacity nor what a pod needs puts any there."""
        return parse(self._allocatable.get(resource, "0"))

    def patch(self, patch: Mapping[str, Any]) -> None:
        """Apply a strategic merge patch of the kubelet. Raises Problem (413, 422)."""
        node = msgspec.json.decode(self._encoded, type=Object)
        before = node["metadata"]
        merged = strategic_merge(node, patch)
        _check(merged)
        for key in ("name", "uid", "creationTimestamp", "resourceVersion"):
            merged["metadata"][key] = before[key]
        # As for the status subresource of a real Node: whatever is sent, the spec stays.
        merged["spec"] = node["spec"]
        _raise_to(self._needs, merged["status"])
        if merged != node:
            self._store(merged)

    def require(self, pod: Mapping[str, Any]) -> None:
        """Make sure that the pod is admitted: raise what is allocatable to what it requests.

        The instance was chosen for the pod; what the kubelet withholds from it (reserves, eviction thresholds)
        must not refuse it. Nothing is raised above what the instance has: whether a pod that asks for more
        can be resized to it is the kubelet's to say. Likewise its labels are such that the pod may be here.
        """
        self._needs = {
            resource: needed if has is None else min(needed, parse(has))
            for resource, needed in _requested(pod)
            for has in [self._identity.capacity.get(resource)]
        }
        node = msgspec.json.decode(self._encoded, type=Object)
        raised = _raise_to(self._needs, node["status"])
        if self._describe_for(pod, node["metadata"]["labels"]) or raised:
            self._store(node)

    def _describe_for(self, pod: Mapping[str, Any], labels: dict[str, str]) -> bool:
        """Make of the machine's labels what lets the pod be here; others, which a plugin may have added, stay."""
        identity, before = self._identity, dict(labels)
        wanted = node_labels(self._virtual_labels, identity.labels, pod, node_name=identity.node_name)
        for key in identity.labels:
            labels.pop(key, None)
            if key in wanted:
                labels[key] = wanted[key]
        return labels != before

    def _store(self, node: Object) -> None:
        """Keep this Node, all of it or, if anything is wrong with it, nothing."""
        version = self._versions.next()
        node["metadata"]["resourceVersion"] = version
        encoded = msgspec.json.encode(node)
        if len(encoded) > self._max_bytes:
            raise too_large(f"the Node would have more than {self._max_bytes} bytes")
        uid = str(node["metadata"]["uid"])
        self._encoded, self._resource_version, self._uid = encoded, version, uid
        self._allocatable = node["status"].get("allocatable", {})
        self.changed.fire()


def _seed(identity: CellIdentity, real: Mapping[str, Any]) -> Object:
    metadata = real["metadata"]
    machine = {"pods": _MAX_PODS, **identity.capacity}
    spec = {key: value for key, value in entries(real, "spec").items() if key != "taints"}
    taints = [taint for taint in items(real, "spec", "taints") if taint.get("effect") != "NoExecute"]
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {
            "name": identity.node_name,
            "uid": metadata["uid"],
            "creationTimestamp": metadata["creationTimestamp"],
            "labels": {**entries(real, "metadata", "labels"), **identity.labels},
            "annotations": dict(entries(real, "metadata", "annotations")),
        },
        "spec": {**spec, **({"taints": taints} if taints else {})},
        "status": {
            "capacity": dict(machine),
            "allocatable": dict(machine),
            # What a kubelet writes into its pods' status.hostIP.
            "addresses": [
                {"type": "InternalIP", "address": identity.cell_address},
                {"type": "Hostname", "address": identity.node_name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": _KUBELET_PORT}},
        },
    }


def _requested(pod: Mapping[str, Any]) -> Iterator[tuple[str, Decimal]]:
    """At least what the kubelet will compare with allocatable: init containers are added as if all ran at once."""
    specs = [
        *items(pod, "spec", "containers"),
        *items(pod, "spec", "initContainers"),
        {"resources": {"requests": dig(pod, "spec", "overhead")}},
    ]
    for resource in _ADMITTED_BY[:-1]:
        of_containers = sum(
            (parse(entries(spec, "resources", "requests").get(resource, 0)) for spec in specs), Decimal(0)
        )
        of_pod = entries(pod, "spec", "resources", "requests").get(resource, 0)
        yield resource, max(of_containers, parse(of_pod))
    yield "pods", Decimal(1)


def _raise_to(needs: Mapping[str, Decimal], status: Object) -> bool:
    raised = False
    for field in ("capacity", "allocatable"):
        amounts = status.setdefault(field, {})
        for resource, needed in needs.items():
            if parse(amounts.get(resource, "0")) < needed:
                amounts[resource] = format_millis(millis(str(needed)))
                raised = True
    return raised


def _check(node: Object) -> None:
    """What is read here later must be there. Whatever else the kubelet writes is its own affair."""
    metadata, status = node.get("metadata"), node.get("status")
    if not isinstance(metadata, dict) or not isinstance(status, dict):
        raise invalid("metadata and status of a Node are objects")
    for field in ("capacity", "allocatable"):
        amounts = status.get(field, {})
        if not isinstance(amounts, dict):
            raise invalid(f"status.{field} is an object")
        try:
            for amount in amounts.values():
                parse(amount)
        except QuantityError as error:
            raise invalid(f"status.{field}: {error}") from error
    for field in ("conditions", "addresses"):
        elements = status.get(field, [])
        if not isinstance(elements, list) or not all(map(_has_type, elements)):
            raise invalid(f"status.{field} is a list of objects that each have a type")


def _has_type(element: object) -> bool:
    return isinstance(element, dict) and isinstance(element.get("type"), str)
