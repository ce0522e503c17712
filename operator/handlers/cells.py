"""A Cell was seen."""

from __future__ import annotations

from typing import Any

from kip.context import Context


async def seen(*, event: Any, memo: Context, **_: Any) -> None:
    """Note the Cell and mark its pod for work."""
    memo.post(memo.sightings.cell, event["type"], dict(event["object"]))
