"""Which EC2 tags an instance gets for its pod: pure, and never more than EC2 takes.

Limits: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kip.model import names

MOST_TAGS = 50
LONGEST_KEY = 128
LONGEST_VALUE = 256

# "Letters, spaces, and numbers representable in UTF-8, and the following characters: + - = . _ : / @".
_NOT_ALLOWED = re.compile(r"[^\w +\-=.:/@]")
# Belong to AWS, to Kubernetes' own cloud controllers, to Kip, or (the last three) to the first Kip and Karpenter, which
# act on what carries their tags. A label must not make an instance look like theirs.
_NOT_OURS_TO_SET = (
    "aws:",
    "kubernetes.io/",
    "io.kubernetes",
    f"{names.GROUP}/",
    "kiyot.",
    "karpenter.",
    "eks:",
)
_NEVER_FROM_LABELS = frozenset(
    {names.TAG_NAME, names.TAG_NAMESPACE, names.TAG_NAMETAG, "KipControllerID", "Node"}
)
# What every launch has besides: cluster, node and launch.
_ROOM = MOST_TAGS - 3


@dataclass(frozen=True)
class PodTags:
    """The tags of one pod's instance that say what it is for; whose it is, is said by others."""

    called: str
    """The beginning of each Name in EC2's console."""
    nametag: str | None = None

    def __call__(self, pod: Mapping[str, Any]) -> dict[str, str]:
        """Name, namespace and nametag, and of the pod's labels as many as there is room for, by their order."""
        metadata = pod["metadata"]
        namespace = metadata["namespace"]
        found = {
            names.TAG_NAME: _value(f"{self.called} {namespace}/{metadata['name']}"),
            names.TAG_NAMESPACE: namespace,
        }
        if self.nametag:
            found[names.TAG_NAMETAG] = self.nametag
        for key, value in sorted((metadata.get("labels") or {}).items()):
            if len(found) < _ROOM and (tag := _key(key)) is not None:
                found.setdefault(tag, _value(value))
        return found


def in_common(all_tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The tags that all have with the same value: those that one RunInstances call can give them."""
    first, *others = all_tags
    return {key: value for key, value in first.items() if all(tags.get(key) == value for tags in others)}


def lacking(present: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """What an instance has to be given; others may have put tags on it too, and then there may not be room for all."""
    changed = {key: value for key, value in wanted.items() if key in present and present[key] != value}
    new = sorted((key, value) for key, value in wanted.items() if key not in present)
    return changed | dict(new[: max(MOST_TAGS - len(present), 0)])


def _key(label: str) -> str | None:
    """The tag for a label; None if there can be none. One that is cut off would be another key."""
    key = _NOT_ALLOWED.sub("_", label)
    if key in _NEVER_FROM_LABELS or len(key) > LONGEST_KEY or key.lower().startswith(_NOT_OURS_TO_SET):
        return None
    return key


def _value(text: str) -> str:
    return _NOT_ALLOWED.sub("_", text)[:LONGEST_VALUE]
