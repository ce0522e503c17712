"""One table: what is watched, and which function hears of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import kopf

from kip.handlers import cells, node, pods
from kip.model.names import GROUP, VERSION


@dataclass(frozen=True)
class Watched:
    """One kind of object, selected by the API server, and its handler."""

    resource: tuple[str, ...]
    handler: Callable[..., Awaitable[None]]
    """A coroutine function, though there is nothing to await: kopf runs any other in a thread, for each event."""
    field_selector: str | None = None
    label_selector: str | None = None


def watched(node_name: str) -> tuple[Watched, ...]:
    """Everything that the process serving this virtual node reacts to.

    Only `on.event` handlers: kopf writes nothing to an object for them, while its handlers for creation, update and
    deletion leave annotations on every pod (with all environment values) and a finalizer.
    """
    return (
        Watched(("v1", "pods"), pods.seen, field_selector=f"spec.nodeName={node_name}"),
        Watched((f"{GROUP}/{VERSION}", "cells"), cells.seen, label_selector=f"{GROUP}/node={node_name}"),
        Watched(("v1", "nodes"), node.seen, field_selector=f"metadata.name={node_name}"),
    )


def build(table: tuple[Watched, ...]) -> kopf.OperatorRegistry:
    """The table as kopf's registry."""
    registry = kopf.OperatorRegistry()
    for row in table:
        kopf.on.event(*row.resource, registry=registry)(row.handler)
    return registry


def settings(table: tuple[Watched, ...]) -> kopf.OperatorSettings:
    """kopf's settings for many short-lived objects; reasons beside each."""
    chosen = kopf.OperatorSettings()
    for row in table:
        key: Any = row.resource
        if row.field_selector:
            chosen.watching.field_selectors[key] = row.field_selector
        if row.label_selector:
            chosen.watching.label_selectors[key] = row.label_selector
    chosen.watching.chunk_size = 500  # a list of thousands in one answer blocks the loop for a second
    chosen.watching.server_timeout = 300
    chosen.watching.connect_timeout = 5
    chosen.watching.reconnect_backoff = 0.1
    chosen.queueing.worker_limit = 200  # a task for each object, but never thousands at once …
    chosen.queueing.idle_timeout = 0.05  # … so an idle one must go quickly, or new objects wait for its place
    chosen.posting.enabled = False  # events about pods are our own, deduplicated
    chosen.scanning.disabled = True  # the kinds above are all there are; no watch of CRDs and namespaces
    return chosen
