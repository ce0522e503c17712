"""Keys of the first Kip that this one has no use for: accepted, with a word on what took their place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from kip.config import tree
from kip.config.problems import ConfigWarning, KeyPath, dotted

WITHOUT_EFFECT: Mapping[KeyPath, str] = {
    ("cloud", "gce"): "ignored; cells run on AWS only, see cloud.aws",
    ("cloud", "azure"): "ignored; cells run on AWS only, see cloud.aws",
    ("cloud", "aws", "ecsClusterName"): "ignored; Kip does not use ECS",
    (
        "etcd",
    ): "ignored; Kip keeps its state in Cell objects of the cluster and needs neither etcd nor a volume",
    ("cells", "itzo"): "ignored; cells run containerd and kubelet instead of itzo, see cells.bootImageSpec",
    ("cells", "statusInterval"): "ignored; a pod's status comes from its kubelet as it changes",
    (
        "cells",
        "healthcheck",
    ): "ignored; machines that do not come up: cells.connectTimeout and cells.startTimeout, pods whose machine is out of "
    "reach: pod.elotl.co/healthcheck-healthy-timeout in cells.defaultAnnotations",
    ("cells", "cellConfig"): "ignored; use cells.cloudInitFile to configure the machine",
    (
        "cells",
        "useCloudParameterStore",
    ): "ignored; user data holds no secret that would have to be kept elsewhere",
    (
        "testing",
    ): "ignored; the cluster is named by cluster.name, AWS's address given by cloud.aws.endpointURL",
}
#: Older places of keys -> where they are now.
MOVED: Mapping[KeyPath, KeyPath] = {
    ("kubelet", name): ("kubelet", "capacity", name) for name in ("cpu", "memory", "pods")
}
# Account that published the first Kip's machine images; they run its agent and have no kubelet.
_FIRST_KIPS_OWNER = "689494258501"

Where = Callable[[KeyPath], str | None]


def replace(data: Mapping[str, Any], where: Where) -> tuple[dict[str, Any], list[ConfigWarning]]:
    """`data` without the obsolete keys that it has, and a warning for each of those."""
    kept = copy.deepcopy(dict(data))
    messages = {path: message for path, message in WITHOUT_EFFECT.items() if _pop(kept, path)}
    messages |= _without_first_kips_image(kept)
    for old, new in MOVED.items():
        if value := _pop(kept, old):
            messages[old] = f"now written {dotted(new)}"
            _set_default(kept, new, value[0])
    return kept, [
        ConfigWarning(path, message, where(path), ignored=path not in MOVED)
        for path, message in messages.items()
    ]


def _without_first_kips_image(data: dict[str, Any]) -> dict[KeyPath, str]:
    path = ("cells", "bootImageSpec")
    spec = tree.section(data, path)
    if spec is None or _FIRST_KIPS_OWNER not in str(spec.get("owners")):
        return {}
    _pop(data, path)
    return {path: "ignored; the first Kip's images have no kubelet: the newest EKS image is used instead"}


def _pop(data: dict[str, Any], path: KeyPath) -> list[Any]:
    """Take the value at `path` out; a list of it, empty when there is none."""
    section = tree.section(data, path[:-1])
    return [section.pop(path[-1])] if section is not None and path[-1] in section else []


def _set_default(data: dict[str, Any], path: KeyPath, value: Any) -> None:
    """Set what is not there yet: of an old and a new way to write the same, the new one counts."""
    section = tree.ensure_section(data, path[:-1])
    if section is not None:
        section.setdefault(path[-1], value)
