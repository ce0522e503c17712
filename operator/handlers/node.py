"""The virtual node itself was seen."""

from __future__ import annotations

from typing import Any

from kip.context import Context


async def seen(*, event: Any, memo: Context, **_: Any) -> None:
    """Note the Node; one that was deleted comes back at once."""
    memo.post(memo.sightings.node, event["type"], dict(event["object"]))
