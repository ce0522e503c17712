"""In which zones a pod's volumes are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kip.model.placement import ZONE
from kip.pods.tree import Pod, dig, entries, items

# As some CSI drivers call it (aws-ebs-csi-driver), besides Kubernetes' own labels.
_ZONE_KEYS = ZONE | {"topology.ebs.csi.aws.com/zone"}
# Of a volume in several zones, in the label that volumes of old have instead of an affinity.
_SEPARATOR = "__"


def claims(pod: Pod) -> tuple[str, ...]:
    """Names of the claims that the pod's volumes are of, in its namespace."""
    return tuple(dict.fromkeys(_claims(pod)))


def _claims(pod: Pod) -> Iterator[str]:
    for volume in items(pod, "spec", "volumes"):
        if (name := dig(volume, "persistentVolumeClaim", "claimName")) is not None:
            yield name
        elif volume.get("ephemeral") is not None:
            yield f"{pod['metadata']['name']}-{volume['name']}"


def zones_of(volume: Mapping[str, Any]) -> frozenset[str] | None:
    """Zones from which a PersistentVolume can be used; None when they are no matter."""
    terms = list(items(volume, "spec", "nodeAffinity", "required", "nodeSelectorTerms"))
    if not terms:
        labels = entries(volume, "metadata", "labels")
        return in_all(frozenset(labels[key].split(_SEPARATOR)) for key in sorted(_ZONE_KEYS & labels.keys()))
    alternatives = [_of_term(term) for term in terms]
    if None in alternatives:
        return None
    return frozenset().union(*(zones for zones in alternatives if zones is not None))


def in_all(found: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    """Zones that are in each; None is every zone."""
    together: frozenset[str] | None = None
    for zones in found:
        if zones is not None:
            together = zones if together is None else together & zones
    return together


def _of_term(term: Mapping[str, Any]) -> frozenset[str] | None:
    return in_all(
        frozenset(expression.get("values") or ())
        for expression in items(term, "matchExpressions")
        if expression["key"] in _ZONE_KEYS and expression["operator"] == "In"
    )
