"""`/stats/summary` of the virtual node, from those of its cells (stats.k8s.io v1alpha1 Summary)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_SECTIONS = ("cpu", "memory", "swap", "fs")


def merge(node_name: str, summaries: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """One Summary from (pod UID, Summary) pairs: the sum of the nodes, and of each the one pod that is its own.

    What a cell runs beside its pod (a static pod) is not known to the cluster and counts to the node only.
    """
    nodes: list[Mapping[str, Any]] = []
    pods: list[Any] = []
    for uid, summary in summaries:
        nodes.append(summary.get("node") or {})
        pods += [pod for pod in summary.get("pods") or () if (pod.get("podRef") or {}).get("uid") == uid]
    node: dict[str, Any] = {"nodeName": node_name}
    started = [one["startTime"] for one in nodes if one.get("startTime")]
    if started:
        node["startTime"] = min(started)
    for section in _SECTIONS:
        present = [one[section] for one in nodes if one.get(section)]
        if present:
            node[section] = _add(present)
    return {"node": node, "pods": pods}


def _add(sections: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Numbers added up, `time` the newest."""
    total: dict[str, Any] = {}
    for section in sections:
        for key, value in section.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                total[key] = total.get(key, 0) + value
            elif key == "time":
                total[key] = max(total.get(key, value), value)
    return total
