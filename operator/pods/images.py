"""Which images a pod names, and whether it is meant for a virtual node that it is not bound to yet."""

from __future__ import annotations

from kip.model.names import TAINT_KEY, TAINT_VALUE
from kip.pods.tree import Pod, entries, items

_CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")


def images(pod: Pod) -> tuple[str, ...]:
    """The names of images that a kubelet would pull for the pod's containers and image volumes, as they are written there,
    each once."""
    found = {
        container.get("image") or "": None
        for kind in _CONTAINER_LISTS
        for container in items(pod, "spec", kind)
        if container.get("imagePullPolicy") != "Never"
    }
    for volume in items(pod, "spec", "volumes"):
        if entries(volume, "image").get("pullPolicy") != "Never":
            found[entries(volume, "image").get("reference") or ""] = None
    return tuple(name for name in found if name)


def meant_for_virtual_node(pod: Pod) -> bool:
    """It is not bound to a node, and says that a virtual node will do: by name, not by tolerating everything."""
    if entries(pod, "spec").get("nodeName"):
        return False
    if entries(pod, "spec", "nodeSelector").get("type") == "virtual-kubelet":
        return True
    return any(_tolerates(toleration) for toleration in items(pod, "spec", "tolerations"))


def _tolerates(toleration: Pod) -> bool:
    """As the scheduler compares it with the node's taint (v1 Toleration, ToleratesTaint)."""
    if toleration.get("key") != TAINT_KEY or toleration.get("effect") not in (None, "", "NoSchedule"):
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value", "") == TAINT_VALUE
