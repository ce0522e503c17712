"""What the list of pods is to a cell's kubelet, and when it must not be answered at all.

A list that is empty or wrong makes a kubelet kill its containers within seconds, and nothing repairs that: it goes
on watching from the wrong list. So an empty list is an answer only when it is known to be true.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kip.pods.tree import dig


@dataclass(frozen=True, slots=True)
class Listed:
    """The true list: this pod."""

    pod: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Empty:
    """The true list: no pod, until one is shown."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """What the list is cannot be said yet."""

    why: str


@dataclass(frozen=True, slots=True)
class Missing:
    """The pod is not among those known: the list is empty if the API server, asked directly, has none either."""


View = Listed | Empty | Unknown | Missing


def view(*, synced: bool, shown: bool, pod: Mapping[str, Any] | None) -> View:
    """What to answer.

    `synced`: the pods of the node have been listed; `shown`: this cell's pod is to be run by now; `pod`: what is
    known of it.
    """
    if not synced:
        return Unknown("the pods of the node are not known yet")
    if pod is None:
        return Missing()
    if shown:
        return Listed(pod)
    if dig(pod, "status", "startTime"):
        # Set by a kubelet when it takes a pod up: its containers may be running on this very cell.
        return Unknown("the pod was started before, but whether this cell shall run it is not decided yet")
    return Empty()
