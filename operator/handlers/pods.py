"""A pod of the virtual node was seen."""

from __future__ import annotations

from typing import Any

from kip.context import Context


async def seen(*, event: Any, memo: Context, **_: Any) -> None:
    """Note the pod and mark it for work; what follows is decided level by level, not event by event."""
    memo.post(memo.sightings.pod, event["type"], dict(event["object"]))
