"""Why a request that matched a rule is refused all the same.

Each check says one thing, from what the cell *is* and what its pod refers to; what it asks decides nothing. They
wait only where a volume has to be looked up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kip.bootstrap.layout import DEVICE_PLUGIN, DEVICE_PLUGIN_NAMESPACE, static_pod_name
from kip.cellapi.call import Call
from kip.cellapi.problem import Problem, bad_request, forbidden
from kip.pods.references import Reference

_LEASES = "kube-node-lease"
# The one selector that a kubelet lists Services with; what it selects is decided by what the cell may see anyway.
_HAS_CLUSTER_IP = "spec.clusterIP!=None"
# NodeRestriction keeps a node from writing these; without impersonation nothing else would. They decide which
# resource claims a pod refers to, and with that what the cell may read.
_STATUS_OF_OTHERS = ("resourceClaimStatuses", "extendedResourceClaimStatus")


async def nothing(call: Call) -> Problem | None:
    """The path alone says all."""
    return None


async def own_node(call: Call) -> Problem | None:
    """The node it names is the one that the cell poses as."""
    identity = call.session.identity
    wanted = call.names.get("node", identity.node_name)
    namespace = call.names.get("namespace", _LEASES)
    if wanted != identity.node_name or namespace != _LEASES:
        return forbidden(f"this cell is node {identity.node_name}")
    return None


async def own_node_selected(call: Call) -> Problem | None:
    """If it selects, then its own Node."""
    node = call.session.identity.node_name
    return _selector(call, "", f"metadata.name={node}")


async def of_own_node_selected(call: Call) -> Problem | None:
    """It selects what is its own node's, as every kubelet does of pods, slices and requests for certificates."""
    return _selector(call, f"spec.nodeName={call.session.identity.node_name}")


async def services_selector(call: Call) -> Problem | None:
    return _selector(call, "", _HAS_CLUSTER_IP)


async def no_selector(call: Call) -> Problem | None:
    return _selector(call, "")


def _selector(call: Call, *allowed: str) -> Problem | None:
    selector = call.target.query.get("fieldSelector", "")
    return None if selector in allowed else forbidden(f"fieldSelector {selector!r} is not for this cell")


async def own_pod(call: Call) -> Problem | None:
    """The pod that it names is the cell's."""
    identity = call.session.identity
    if (call.names["namespace"], call.names["name"]) != (identity.namespace, identity.pod_name):
        return forbidden("another pod than the cell's")
    return None


async def own_mirror_pod(call: Call) -> Problem | None:
    """The mirror of the device plugin's static pod."""
    metadata = call.body.get("metadata")
    if isinstance(metadata, Mapping) and names_device_plugin(call, metadata):
        return None
    return forbidden("a cell creates no pods")


async def own_pod_status(call: Call) -> Problem | None:
    """A patch of the status, of exactly this pod (by UID), and of nothing else: labels decide who sends it traffic."""
    if problem := await own_pod(call):
        return problem
    if problem := _patches_strategically(call):
        return problem
    metadata, status = call.body.get("metadata"), call.body.get("status", {})
    if not isinstance(metadata, Mapping) or metadata.get("uid") != call.session.identity.pod_uid:
        return forbidden("a status patch carries the UID of the cell's pod in metadata.uid")
    if set(call.body) - {"metadata", "status"} or set(metadata) - {"uid"} or not isinstance(status, Mapping):
        return forbidden("a status patch has metadata.uid and status, nothing else")
    if foreign := [key for key in status if key.rpartition("/")[2] in _STATUS_OF_OTHERS]:
        return forbidden(f"a kubelet does not write status.{foreign[0]}")
    return None


async def own_pod_deletion(call: Call) -> Problem | None:
    """Deletes exactly this pod (by UID), at once: how a kubelet finishes a graceful deletion."""
    if problem := await own_pod(call):
        return problem
    if dig_or_none(call.body, "preconditions", "uid") != call.session.identity.pod_uid:
        return forbidden("a deletion carries the UID of the cell's pod in preconditions.uid")
    if call.body.get("gracePeriodSeconds") != 0:
        return forbidden("a kubelet deletes a pod that has ended: gracePeriodSeconds is 0")
    return None


async def referenced(call: Call) -> Problem | None:
    """The pod refers to it."""
    return _unless(_asked_for(call) in call.session.references())


async def referenced_secret(call: Call) -> Problem | None:
    """The pod refers to it, or one of the pod's volumes does."""
    session, secret = call.session, _asked_for(call)
    return _unless(secret in session.references() or await session.volume_secrets.names(session, secret))


async def own_claim_status(call: Call) -> Problem | None:
    """The status of a claim that the pod refers to."""
    if problem := await referenced(call) or _patches_strategically(call):
        return problem
    metadata = call.body.get("metadata", {})
    if set(call.body) - {"metadata", "status"} or not isinstance(metadata, Mapping):
        return forbidden("a patch of a claim's status has metadata and status, nothing else")
    if set(metadata) - {"uid", "resourceVersion"}:
        return forbidden("a patch of a claim's status changes nothing in metadata")
    return None


async def own_token(call: Call) -> Problem | None:
    """A token of the pod's service account, bound to the pod. For which audiences is between the kubelet and the
    API server, which knows what the pod asks for (ServiceAccountNodeAudienceRestriction)."""
    if problem := await referenced(call):
        return problem
    identity = call.session.identity
    bound = dig_or_none(call.body, "spec", "boundObjectRef")
    expected = {"kind": "Pod", "apiVersion": "v1", "name": identity.pod_name, "uid": identity.pod_uid}
    if bound != expected:
        return forbidden("a token must be bound to the cell's pod: kind, apiVersion, name and uid")
    return None


async def own_event(call: Call) -> Problem | None:
    """About the cell's pod, about its Node, or about the device plugin that runs beside the pod."""
    identity = call.session.identity
    about, metadata = call.body.get("involvedObject"), call.body.get("metadata")
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str):
        return bad_request("an event has metadata.name")
    if not isinstance(about, Mapping):
        return bad_request("an event has an involvedObject")
    if about.get("kind") == "Node":
        return None if about.get("name") == identity.node_name else forbidden("an event about another node")
    if about_own_pod(call, about) or (about.get("kind") == "Pod" and names_device_plugin(call, about)):
        return None
    return forbidden("an event about something else than the cell's pod")


async def own_event_update(call: Call) -> Problem | None:
    """Does not make an event speak of something else."""
    about = call.body.get("involvedObject")
    metadata = call.body.get("metadata", {})
    if about is not None or not isinstance(metadata, Mapping) or set(metadata) - {"resourceVersion"}:
        return forbidden("another occurrence of an event changes its count, time and message only")
    return None


def about_own_pod(call: Call, about: Mapping[str, Any]) -> bool:
    """Whether an event is about the cell's pod."""
    identity = call.session.identity
    expected = {
        "kind": "Pod",
        "namespace": identity.namespace,
        "name": identity.pod_name,
        "uid": identity.pod_uid,
    }
    here = call.names["namespace"] == identity.namespace
    return here and all(about.get(key) == value for key, value in expected.items())


def names_device_plugin(call: Call, named: Mapping[str, Any]) -> bool:
    """Whether this is the static pod that runs the device plugin."""
    name = static_pod_name(DEVICE_PLUGIN, call.session.identity.node_name)
    here = call.names["namespace"] == DEVICE_PLUGIN_NAMESPACE
    return here and (named.get("namespace"), named.get("name")) == (DEVICE_PLUGIN_NAMESPACE, name)


def _asked_for(call: Call) -> Reference:
    # /api/v1/namespaces/{namespace}/RESOURCE/{name}, or the same below /apis/GROUP/VERSION.
    segments = call.target.segments
    resource = segments[segments.index("namespaces") + 2]
    return Reference(resource, call.names["namespace"], call.names["name"])


def _unless(allowed: bool) -> Problem | None:
    return None if allowed else forbidden("the cell's pod does not refer to it")


def _patches_strategically(call: Call) -> Problem | None:
    if call.content_type == "application/strategic-merge-patch+json":
        return None
    return bad_request("expected a strategic merge patch")


def dig_or_none(value: Any, *path: str) -> Any:
    """Like `dig`, for what a cell has sent: what is not an object on the way counts as missing."""
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value
