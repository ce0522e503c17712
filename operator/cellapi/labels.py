"""The labels of a cell's Node: those of the virtual node, and what is to be said of the machine."""

from __future__ import annotations

from collections.abc import Mapping

from kip.pods.nodeaffinity import allows, named_labels
from kip.pods.tree import Pod


def node_labels(
    virtual: Mapping[str, str], machine: Mapping[str, str], pod: Pod, *, node_name: str
) -> dict[str, str]:
    """What the kubelet is shown, so that it admits what the scheduler has bound.

    The scheduler compares the pod with the virtual node, and the kubelet compares it again with the Node it is shown; a
    pod that it refuses is `Failed/NodeAffinity` for good. So the machine is described, unless the pod would then be
    refused: in what the pod itself names, the virtual node's word counts. A pod that wants a node without
    `node.kubernetes.io/instance-type` is on a node without it.
    """
    described = {**virtual, **machine}
    if allows(pod, described, node_name=node_name):
        return described
    named = named_labels(pod)
    return {**virtual, **{key: value for key, value in machine.items() if key not in named}}
