"""What runs for as long as a node is served."""

from __future__ import annotations

from asyncio import TaskGroup
from collections.abc import Coroutine, Mapping
from typing import Any

Loops = Mapping[str, Coroutine[Any, Any, None]]
"""By name. They end only with what serves the node: by being cancelled, or by breaking."""


def start(group: TaskGroup, *sides: Loops) -> None:
    for loops in sides:
        for name, work in loops.items():
            group.create_task(work, name=name)
